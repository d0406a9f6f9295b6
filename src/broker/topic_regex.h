/* Regular expressions over topic names, for subscriptions by pattern. The syntax is a subset of RE2's
 * (which Kafka's consumer groups use), and so is the promise: matching takes time linear in the
 * name, whatever the pattern, because all ways are followed at once. A pattern matches a whole name.
 *
 * Known: literals, . and classes [a-z] [^a-z] [[:alpha:]], \d \D \s \S \w \W, alternation, groups
 * ( ), (?: ), (?P<name> ) and (?<name> ), flags (?i) (?s) (?m) (?U) in any place RE2 has them,
 * * + ? {n} {n,} {n,m} and their lazy forms (which match the same names), ^ $ \A \z \b \B, \Q…\E,
 * \a \f \t \n \r \v \xHH \x{H…} \0OO and escaped punctuation. Not known, hence refused: Unicode
 * classes \p, \C, back-references, looking around. Letters are bytes: names of topics are ASCII.
 *
 * A compiled expression does not change: any thread may match with it. */
#ifndef WEIR_BROKER_TOPIC_REGEX_H
#define WEIR_BROKER_TOPIC_REGEX_H

#include <stdbool.h>

#include "base/err.h"
#include "base/slice.h"

struct topic_regex;

/* ERR_REGEX with a sentence that says where; at most LIMIT_REGEX_BYTES and LIMIT_REGEX_STATES. */
enum err topic_regex_new(struct slice pattern, struct topic_regex **out, struct errinfo *info);
void topic_regex_free(struct topic_regex **r);
bool topic_regex_match(const struct topic_regex *r, struct slice name);
size_t topic_regex_bytes(const struct topic_regex *r); /* in memory */

#endif
