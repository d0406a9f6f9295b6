/* Names of streams. See stream_name.h; the plural rules are told to users in docs/http.md. */
#include "base/stream_name.h"

#include <string.h>

bool stream_split(struct slice stream, struct slice *topic, struct slice *key)
{
    const uint8_t *colon = stream.len ? memchr(stream.ptr, ':', stream.len) : NULL;

    *topic = stream;
    *key = SLICE_NULL;
    if (colon) {
        topic->len = (size_t)(colon - stream.ptr);
        *key = slice_of(colon + 1, stream.len - topic->len - 1);
    }
    return topic->len > 0 && (!colon || key->len > 0);
}

static bool ends(struct slice w, const char *with)
{
    size_t n = strlen(with);

    return w.len >= n && memcmp(w.ptr + w.len - n, with, n) == 0;
}

static bool vowel(uint8_t c)
{
    return memchr("aeiou", c, 5) != NULL;
}

static size_t put2(char *out, size_t cap, struct slice a, const char *b)
{
    size_t n = strlen(b);

    if (a.len + n >= cap)
        return 0;
    memcpy(out, a.ptr, a.len);
    memcpy(out + a.len, b, n + 1);
    return a.len + n;
}

/* One word whose plural no rule gives; an empty `many` means that the word stays as it is. */
static const char *const irregular[][2] = {
    {"person", "people"}, {"child", "children"}, {"man", "men"},      {"woman", "women"},
    {"quiz", "quizzes"},  {"data", ""},          {"metadata", ""},    {"info", ""},
    {"media", ""},        {"telemetry", ""},     {"feedback", ""},    {"weather", ""},
    {"traffic", ""},      {"equipment", ""},     {"information", ""}, {"people", ""},
    {"children", ""},     {"money", ""},         {"software", ""},    {"hardware", ""},
};

size_t plural(struct slice w, char *out, size_t cap)
{
    for (size_t i = 0; i < sizeof irregular / sizeof irregular[0]; i++) {
        if (slice_eq_str(w, irregular[i][0]))
            return irregular[i][1][0] ? put2(out, cap, slice_of(w.ptr, 0), irregular[i][1])
                                      : put2(out, cap, w, "");
    }
    if (ends(w, "sis"))
        return put2(out, cap, slice_of(w.ptr, w.len - 2), "es");
    if (ends(w, "ss") || ends(w, "us") || ends(w, "sh") || ends(w, "ch") || ends(w, "x") ||
        ends(w, "z"))
        return put2(out, cap, w, "es");
    if (ends(w, "s"))
        return put2(out, cap, w, "");
    if (ends(w, "y") && w.len > 1 && !vowel(w.ptr[w.len - 2]))
        return put2(out, cap, slice_of(w.ptr, w.len - 1), "ies");
    return put2(out, cap, w, "s");
}

size_t stream_from_type(struct slice type, char *out)
{
    const uint8_t *dot = type.len ? memchr(type.ptr, '.', type.len) : NULL;
    struct slice first = slice_of(type.ptr, dot ? (size_t)(dot - type.ptr) : type.len);

    if (first.len == 0)
        return 0;
    for (size_t i = 0; i < first.len; i++) {
        uint8_t c = first.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-'))
            return 0;
    }
    return plural(first, out, TOPIC_NAME_MAX + 1);
}
