/* Records as text: the lines that `weir produce --json` takes and `weir consume --json` prints, format
 * strings as kcat has them, and escapes. One thread. */
#ifndef WEIR_CLI_RECORD_TEXT_H
#define WEIR_CLI_RECORD_TEXT_H

#include "base/arena.h"
#include "cli/cli.h"
#include "journal/batch.h"

#define RECORD_HEADERS_MAX 1024u

/* A record with its place. */
struct placed_record {
    const char *topic;
    int32_t partition;
    const struct record *r;
    struct record_header *headers;
    uint32_t headers_n;
};

/* Appends the text with \n \r \t \0 \\ \xHH replaced; other characters behind a \ stay as they are. */
void text_unescape(const char *s, struct buf *out);

/* Appends {"topic","partition","offset","timestamp","key","value","headers"} without a newline; what is
 * not UTF-8 is under key_base64 and value_base64. headers: [[name, value], …], a value that is not UTF-8
 * as {"base64":…}. Milliseconds since 1970. ERR_TOO_LARGE: out's maximum. */
enum err record_json_write(struct buf *out, const struct placed_record *p);

/* The same back, of which all may be left out: null is no key, no value. headers may be an object, too;
 * timestamp an ISO time; a value that is no string is taken as JSON text. Topic, partition and offset are
 * left aside. *ts_ms is -1 if there is none. What is given lives in the arena. False: *why says what is
 * wrong with the line. */
bool record_json_read(struct slice line, struct arena *arena, struct record *out,
                      struct record_header *headers, uint32_t *headers_n, const char **why);

/* A format with escapes already replaced; false, *bad at the %, if there is a letter that is none of
 * %t topic, %p partition, %o offset, %k key, %K its length, %s value, %S its length (-1 null), %R as four
 * bytes, %h headers k=v with commas, %T timestamp, %%. */
bool format_check(struct slice format, const char **bad);
/* null: what stands for a null key or value. */
enum err format_write(struct buf *out, struct slice format, const struct placed_record *p,
                      struct slice null);

#endif
