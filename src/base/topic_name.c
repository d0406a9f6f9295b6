/* Names of topics and patterns over them. See topic_name.h. */
#include "base/topic_name.h"

static bool allowed(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

bool topic_name_valid(struct slice name)
{
    size_t i;

    if (name.len < 1 || name.len > TOPIC_NAME_MAX || slice_eq_str(name, ".") ||
        slice_eq_str(name, ".."))
        return false;
    for (i = 0; i < name.len; i++)
        if (!allowed(name.ptr[i]))
            return false;
    return true;
}

bool glob_match(const char *p, const char *t)
{
    const char *star = NULL, *from = NULL;

    while (*t) {
        if (*p == '*') {
            star = p++;
            from = t;
        } else if (*p == '?' || *p == *t) {
            p++;
            t++;
        } else if (star) {
            p = star + 1;
            t = ++from;
        } else {
            return false;
        }
    }
    while (*p == '*')
        p++;
    return *p == 0;
}
