/* Where subjects were before other modules needed them. */
#include "base/subject.h"
