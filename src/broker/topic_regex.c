/* Regular expressions over topic names: parsed into a tree, written out as a program, and run over
 * a name with the set of all places where it can be (Thompson, 1968). No step depends on the
 * pattern more than linearly, nothing backtracks. See topic_regex.h for the syntax and
 * docs/why/groups.md for why it is made here.
 *
 * The tree is an array of nodes that refer to each other by number; depth and number are bounded.
 * The program is an array of instructions: SET takes a byte of a set, SPLIT goes two ways, AT holds
 * at certain places, MATCH ends. Counted repetition is written out, up to LIMIT_REGEX_STATES. */
#include "broker/topic_regex.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/tbl/limits.h"

#define DEPTH_MAX  100u
#define REPEAT_MAX 1000 /* as RE2 */
#define NODES_MAX  (4 * LIMIT_REGEX_BYTES)
#define WORK_MAX   100000u /* nodes written out, repetitions of nothing among them */
#define NONE       UINT32_MAX

struct set {
    uint64_t bits[4];
};

enum place { AT_BEGIN, AT_END, AT_WORD, AT_NO_WORD };

struct node {
    enum { N_EMPTY, N_SET, N_PLACE, N_CAT, N_ALT, N_REPEAT } kind;
    uint32_t a, b;    /* N_CAT, N_ALT: both; N_REPEAT: a */
    int32_t min, max; /* N_REPEAT; max -1: no end */
    uint32_t set;     /* N_SET */
    enum place place;
};

struct inst {
    enum { I_SET, I_SPLIT, I_JUMP, I_AT, I_MATCH } op;
    uint32_t x, y; /* where to go; I_SET: x is the set, I_AT: x is the place */
};

struct topic_regex {
    uint32_t n, sets_n;
    struct inst *prog;
    struct set *sets;
};

struct parser {
    const uint8_t *s;
    size_t len, at;
    bool fold; /* flag i */
    unsigned depth;
    struct node *nodes;
    uint32_t nodes_n;
    struct set *sets;
    uint32_t sets_n;
    uint32_t work;
    struct errinfo *info;
    bool bad;
};

/* ---- sets of bytes ---- */

static void set_add(struct set *s, unsigned c)
{
    s->bits[c >> 6] |= 1ull << (c & 63);
}

static bool set_has(const struct set *s, unsigned c)
{
    return s->bits[c >> 6] >> (c & 63) & 1;
}

static void set_add_range(struct set *s, unsigned lo, unsigned hi)
{
    for (; lo <= hi; lo++)
        set_add(s, lo);
}

static void set_invert(struct set *s)
{
    int i;

    for (i = 0; i < 4; i++)
        s->bits[i] = ~s->bits[i];
}

static void set_join(struct set *s, const struct set *more)
{
    int i;

    for (i = 0; i < 4; i++)
        s->bits[i] |= more->bits[i];
}

static void set_fold(struct set *s)
{
    unsigned c;

    for (c = 'a'; c <= 'z'; c++)
        if (set_has(s, c) || set_has(s, c - 32)) {
            set_add(s, c);
            set_add(s, c - 32);
        }
}

static bool is_word(unsigned c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* \d, \s, \w and their opposites; false if it is none of them. */
static bool set_perl(struct set *s, unsigned c)
{
    unsigned i;

    memset(s, 0, sizeof *s);
    switch (c | 32) {
    case 'd':
        set_add_range(s, '0', '9');
        break;
    case 's':
        for (i = 0; i < 5; i++)
            set_add(s, (unsigned)"\t\n\f\r "[i]);
        break;
    case 'w':
        for (i = 0; i < 256; i++)
            if (is_word(i))
                set_add(s, i);
        break;
    default:
        return false;
    }
    if (!(c & 32))
        set_invert(s);
    return true;
}

/* A class by name, as in [[:name:]]. */
static bool set_posix(struct set *s, struct slice name)
{
    static const struct {
        const char *name, *ranges; /* pairs: first, last */
    } rows[] = {{"alnum", "09AZaz"},
                {"alpha", "AZaz"},
                {"ascii", "\x01\x7f"},
                {"blank", "\t\t  "},
                {"cntrl", "\x01\x1f\x7f\x7f"},
                {"digit", "09"},
                {"graph", "!~"},
                {"lower", "az"},
                {"print", " ~"},
                {"punct", "!/:@[`{~"},
                {"space", "\t\r  "},
                {"upper", "AZ"},
                {"word", "09AZaz__"},
                {"xdigit", "09AFaf"}};
    bool not = name.len && name.ptr[0] == '^';
    size_t i;
    const char *r;

    memset(s, 0, sizeof *s);
    if (not )
        name = slice_of(name.ptr + 1, name.len - 1);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (slice_eq_str(name, rows[i].name))
            break;
    if (i == sizeof rows / sizeof rows[0])
        return false;
    for (r = rows[i].ranges; *r; r += 2)
        set_add_range(s, (unsigned char)r[0], (unsigned char)r[1]);
    if (not )
        set_invert(s);
    return true;
}

/* ---- the parser ---- */

static uint32_t fail(struct parser *p, const char *what)
{
    if (!p->bad)
        errinfo_set(p->info, ERR_REGEX, "the regular expression is not valid at byte %zu: %s",
                    p->at, what);
    p->bad = true;
    return 0;
}

static bool more(const struct parser *p)
{
    return p->at < p->len;
}

static bool next_is(const struct parser *p, char c)
{
    return more(p) && p->s[p->at] == (uint8_t)c;
}

static bool take(struct parser *p, const char *word)
{
    size_t n = strlen(word);

    if (p->len - p->at < n || memcmp(p->s + p->at, word, n) != 0)
        return false;
    p->at += n;
    return true;
}

static uint32_t node_new(struct parser *p, struct node nd)
{
    if (p->nodes_n == NODES_MAX)
        return fail(p, "it is too large");
    p->nodes[p->nodes_n] = nd;
    return p->nodes_n++;
}

static uint32_t node_set(struct parser *p, struct set s, bool not )
{
    ASSERT(p->sets_n <= LIMIT_REGEX_BYTES);
    if (p->fold)
        set_fold(&s);
    if (not )
        set_invert(&s);
    p->sets[p->sets_n] = s;
    return node_new(p, (struct node){.kind = N_SET, .set = p->sets_n++});
}

static uint32_t node_byte(struct parser *p, unsigned c)
{
    struct set s = {{0}};

    set_add(&s, c);
    return node_set(p, s, false);
}

static uint32_t node_place(struct parser *p, enum place place)
{
    return node_new(p, (struct node){.kind = N_PLACE, .place = place});
}

static int hex_digit(unsigned c)
{
    if (c >= '0' && c <= '9')
        return (int)c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? (int)c - 'a' + 10 : -1;
}

/* After "\x". */
static int escape_hex(struct parser *p)
{
    bool braces = take(p, "{");
    int v = 0, n = 0, d;

    while (more(p) && n < (braces ? 8 : 2) && (d = hex_digit(p->s[p->at])) >= 0) {
        v = v * 16 + d;
        p->at++;
        n++;
        if (v > 0x7f)
            return fail(p, "no topic's name has such a character"), -1;
    }
    if (n == 0 || (!braces && n != 2) || (braces && !take(p, "}")))
        return fail(p, "\\x needs two hexadecimal digits, or some in braces"), -1;
    return v;
}

/* A backslash was taken: the byte that is meant, or -1 (then it failed). */
static int escape_byte(struct parser *p)
{
    static const char from[] = "aftnrv", to[] = "\a\f\t\n\r\v";
    const char *f;
    unsigned c;
    int v = 0, n;

    if (!more(p))
        return fail(p, "a backslash ends it"), -1;
    c = p->s[p->at];
    if ((f = c ? strchr(from, (int)c) : NULL)) {
        p->at++;
        return to[f - from];
    }
    if (take(p, "x"))
        return escape_hex(p);
    if (c == '0') {
        for (n = 0; n < 3 && more(p) && p->s[p->at] >= '0' && p->s[p->at] <= '7'; n++)
            v = v * 8 + p->s[p->at++] - '0';
        return v > 0x7f ? (fail(p, "no topic's name has such a character"), -1) : v;
    }
    if (c >= 0x80 || is_word(c))
        return fail(p, "an escape that is not known"), -1;
    p->at++;
    return (int)c;
}

/* One end of a range in a class. */
static int class_byte(struct parser *p)
{
    if (!more(p))
        return fail(p, "a class without end"), -1;
    if (take(p, "\\"))
        return escape_byte(p);
    return p->s[p->at++];
}

/* [:name:]; false if it is not one. */
static bool class_named(struct parser *p, struct set *s)
{
    struct set named;
    size_t end;

    if (p->len - p->at < 4 || p->s[p->at] != '[' || p->s[p->at + 1] != ':')
        return false;
    for (end = p->at + 2; end + 1 < p->len && (p->s[end] != ':' || p->s[end + 1] != ']'); end++)
        ;
    if (end + 1 >= p->len)
        return false;
    if (!set_posix(&named, slice_of(p->s + p->at + 2, end - p->at - 2))) {
        fail(p, "a class of that name is not known");
        return true;
    }
    p->at = end + 2;
    set_join(s, &named);
    return true;
}

static uint32_t parse_class(struct parser *p)
{
    struct set s = {{0}}, perl;
    bool not = take(p, "^"), first = true;
    int lo, hi;

    for (; !p->bad && (first || !next_is(p, ']')); first = false) {
        if (class_named(p, &s))
            continue;
        if (p->len - p->at >= 2 && p->s[p->at] == '\\' && set_perl(&perl, p->s[p->at + 1])) {
            p->at += 2;
            set_join(&s, &perl);
            continue;
        }
        lo = hi = class_byte(p);
        if (lo >= 0 && p->len - p->at >= 2 && p->s[p->at] == '-' && p->s[p->at + 1] != ']') {
            p->at++;
            hi = class_byte(p);
        }
        if (p->bad)
            return 0;
        if (hi < lo)
            return fail(p, "a range that goes backwards");
        set_add_range(&s, (unsigned)lo, (unsigned)hi);
    }
    if (!p->bad && !take(p, "]"))
        return fail(p, "a class without end");
    return p->bad ? 0 : node_set(p, s, not );
}

static uint32_t parse_alt(struct parser *p);

/* Flags after "(?": up to ) or :. True if a group begins (:). */
static bool parse_flags(struct parser *p, bool *fold)
{
    bool on = true;

    for (; more(p); p->at++) {
        switch (p->s[p->at]) {
        case 'i':
            *fold = on;
            break;
        case 's':
        case 'm':
        case 'U':
            break;
        case '-':
            if (!on)
                return fail(p, "flags that are not known"), false;
            on = false;
            break;
        case ':':
        case ')':
            return p->s[p->at++] == ':';
        default:
            return fail(p, "flags that are not known"), false;
        }
    }
    return fail(p, "a group without end"), false;
}

static void parse_name(struct parser *p)
{
    size_t from = p->at;

    while (more(p) && is_word(p->s[p->at]))
        p->at++;
    if (p->at == from || !take(p, ">"))
        fail(p, "a group's name is not valid");
}

/* After "(". */
static uint32_t parse_group(struct parser *p)
{
    bool fold = p->fold, inner = p->fold;
    uint32_t n;

    if (++p->depth > DEPTH_MAX)
        return fail(p, "groups too deep in each other");
    if (take(p, "?P<") || (p->len - p->at > 2 && memcmp(p->s + p->at, "?<", 2) == 0 &&
                           p->s[p->at + 2] != '=' && p->s[p->at + 2] != '!' && take(p, "?<"))) {
        parse_name(p);
    } else if (take(p, "?")) {
        if (!parse_flags(p, &inner)) {
            p->fold = inner; /* for the rest of the group around it */
            p->depth--;
            return p->bad ? 0 : node_new(p, (struct node){.kind = N_EMPTY});
        }
    }
    p->fold = inner;
    n = p->bad ? 0 : parse_alt(p);
    p->fold = fold;
    if (!p->bad && !take(p, ")"))
        return fail(p, "a group without end");
    p->depth--;
    return n;
}

/* After \Q: literally up to \E, or the end. */
static uint32_t parse_literal(struct parser *p)
{
    uint32_t n = node_new(p, (struct node){.kind = N_EMPTY});

    while (!p->bad && more(p) && !take(p, "\\E")) {
        uint32_t c = node_byte(p, p->s[p->at++]);

        n = node_new(p, (struct node){.kind = N_CAT, .a = n, .b = c});
    }
    return n;
}

/* After a backslash, outside of classes. */
static uint32_t parse_escape(struct parser *p)
{
    struct set s;
    int c;

    if (more(p) && set_perl(&s, p->s[p->at])) {
        p->at++;
        return node_set(p, s, false);
    }
    if (take(p, "A"))
        return node_place(p, AT_BEGIN);
    if (take(p, "z"))
        return node_place(p, AT_END);
    if (take(p, "b"))
        return node_place(p, AT_WORD);
    if (take(p, "B"))
        return node_place(p, AT_NO_WORD);
    if (take(p, "Q"))
        return parse_literal(p);
    c = escape_byte(p);
    return c < 0 ? 0 : node_byte(p, (unsigned)c);
}

static uint32_t parse_atom(struct parser *p)
{
    struct set any = {{0}};

    switch (p->s[p->at++]) {
    case '(':
        return parse_group(p);
    case '[':
        return parse_class(p);
    case '.':
        set_invert(&any);
        return node_set(p, any, false);
    case '^':
        return node_place(p, AT_BEGIN);
    case '$':
        return node_place(p, AT_END);
    case '\\':
        return parse_escape(p);
    case '*':
    case '+':
    case '?':
        p->at--;
        return fail(p, "nothing that could repeat");
    default:
        return node_byte(p, p->s[p->at - 1]);
    }
}

static int32_t parse_number(struct parser *p)
{
    int32_t v = -1;

    while (more(p) && p->s[p->at] >= '0' && p->s[p->at] <= '9' && v < 100000)
        v = (v < 0 ? 0 : v) * 10 + (p->s[p->at++] - '0');
    return v;
}

/* {n}, {n,} or {n,m}; anything else is not one, and the brace is a letter. */
static bool parse_counts(struct parser *p, int32_t *min, int32_t *max)
{
    size_t at = p->at;

    if (!take(p, "{") || (*min = parse_number(p)) < 0) {
        p->at = at;
        return false;
    }
    *max = *min;
    if (take(p, ",")) {
        *max = parse_number(p);
    }
    if (!take(p, "}")) {
        p->at = at;
        return false;
    }
    if (*min > REPEAT_MAX || *max > REPEAT_MAX || (*max >= 0 && *max < *min))
        fail(p, "a repetition is {n,m} with n <= m <= 1000");
    return true;
}

static bool parse_repeat(struct parser *p, int32_t *min, int32_t *max)
{
    *min = 0;
    *max = -1;
    if (take(p, "*"))
        return true;
    if (take(p, "+")) {
        *min = 1;
        return true;
    }
    if (take(p, "?")) {
        *max = 1;
        return true;
    }
    return parse_counts(p, min, max);
}

static uint32_t parse_cat(struct parser *p)
{
    uint32_t n = node_new(p, (struct node){.kind = N_EMPTY});
    int32_t min, max;

    while (!p->bad && more(p) && !next_is(p, '|') && !next_is(p, ')')) {
        uint32_t a = parse_atom(p);

        if (!p->bad && parse_repeat(p, &min, &max)) {
            a = node_new(p, (struct node){.kind = N_REPEAT, .a = a, .min = min, .max = max});
            take(p, "?"); /* lazy: the same names match */
            if (!p->bad && parse_repeat(p, &min, &max))
                return fail(p, "a repetition of a repetition");
        }
        n = node_new(p, (struct node){.kind = N_CAT, .a = n, .b = a});
    }
    return n;
}

static uint32_t parse_alt(struct parser *p)
{
    bool fold = p->fold;
    uint32_t n = parse_cat(p);

    while (!p->bad && take(p, "|")) {
        uint32_t b = parse_cat(p);

        n = node_new(p, (struct node){.kind = N_ALT, .a = n, .b = b});
    }
    p->fold = fold;
    return n;
}

/* ---- the program ---- */

static uint32_t emit(struct parser *p, struct topic_regex *r, struct inst in)
{
    if (r->n == LIMIT_REGEX_STATES)
        return fail(p, "its repetitions are too large"), 0;
    r->prog[r->n] = in;
    return r->n++;
}

static void emit_node(struct parser *p, struct topic_regex *r, uint32_t at);

static void emit_repeat(struct parser *p, struct topic_regex *r, const struct node *nd)
{
    uint32_t split, first = NONE, i;

    for (i = 0; i < (uint32_t)nd->min && !p->bad; i++)
        emit_node(p, r, nd->a);
    if (nd->max < 0) {
        split = emit(p, r, (struct inst){.op = I_SPLIT});
        emit_node(p, r, nd->a);
        emit(p, r, (struct inst){.op = I_JUMP, .x = split});
        r->prog[split] = (struct inst){.op = I_SPLIT, .x = split + 1, .y = r->n};
        return;
    }
    /* each further one may end it: the ends are chained by y until they are known */
    for (; i < (uint32_t)nd->max && !p->bad; i++) {
        split = emit(p, r, (struct inst){.op = I_SPLIT, .y = first});
        r->prog[split].x = split + 1;
        first = split;
        emit_node(p, r, nd->a);
    }
    while (!p->bad && first != NONE) {
        split = first;
        first = r->prog[split].y;
        r->prog[split].y = r->n;
    }
}

static void emit_alt(struct parser *p, struct topic_regex *r, const struct node *nd)
{
    uint32_t split = emit(p, r, (struct inst){.op = I_SPLIT}), jump;

    emit_node(p, r, nd->a);
    jump = emit(p, r, (struct inst){.op = I_JUMP});
    if (p->bad)
        return;
    r->prog[split] = (struct inst){.op = I_SPLIT, .x = split + 1, .y = r->n};
    emit_node(p, r, nd->b);
    r->prog[jump].x = r->n;
}

/* The tree leans to the left: long concatenations and alternations recurse as deep as the pattern
 * is long, at most LIMIT_REGEX_BYTES. */
static void emit_node(struct parser *p, struct topic_regex *r, uint32_t at)
{
    const struct node *nd = &p->nodes[at];

    if (++p->work > WORK_MAX)
        fail(p, "its repetitions are too large");
    if (p->bad)
        return;
    switch (nd->kind) {
    case N_EMPTY:
        break;
    case N_SET:
        emit(p, r, (struct inst){.op = I_SET, .x = nd->set});
        break;
    case N_PLACE:
        emit(p, r, (struct inst){.op = I_AT, .x = nd->place});
        break;
    case N_CAT:
        emit_node(p, r, nd->a);
        emit_node(p, r, nd->b);
        break;
    case N_ALT:
        emit_alt(p, r, nd);
        break;
    case N_REPEAT:
        emit_repeat(p, r, nd);
        break;
    }
}

static struct topic_regex *program(struct parser *p, uint32_t root)
{
    struct topic_regex *r = xcalloc(1, sizeof *r);

    r->prog = xcalloc(LIMIT_REGEX_STATES, sizeof *r->prog);
    emit_node(p, r, root);
    emit(p, r, (struct inst){.op = I_MATCH});
    if (p->bad) {
        topic_regex_free(&r);
        return NULL;
    }
    r->prog = xrealloc(r->prog, r->n * sizeof *r->prog);
    r->sets_n = p->sets_n;
    r->sets = p->sets_n ? xmemdup(p->sets, p->sets_n * sizeof *p->sets) : NULL;
    return r;
}

enum err topic_regex_new(struct slice pattern, struct topic_regex **out, struct errinfo *info)
{
    struct parser p = {.s = pattern.ptr, .len = pattern.len, .info = info};
    uint32_t root;

    *out = NULL;
    if (pattern.len > LIMIT_REGEX_BYTES)
        return errinfo_set(info, ERR_REGEX, "a regular expression has at most %u bytes",
                           LIMIT_REGEX_BYTES);
    p.nodes = xcalloc(NODES_MAX, sizeof *p.nodes);
    p.sets = xcalloc(LIMIT_REGEX_BYTES + 1, sizeof *p.sets);
    root = parse_alt(&p);
    if (!p.bad && more(&p))
        fail(&p, "a ) without a group");
    if (!p.bad)
        *out = program(&p, root);
    free(p.nodes);
    free(p.sets);
    return *out ? ERR_OK : ERR_REGEX;
}

void topic_regex_free(struct topic_regex **r)
{
    if (!*r)
        return;
    free((*r)->prog);
    free((*r)->sets);
    free(*r);
    *r = NULL;
}

size_t topic_regex_bytes(const struct topic_regex *r)
{
    return sizeof *r + r->n * sizeof *r->prog + r->sets_n * sizeof *r->sets;
}

/* ---- matching ---- */

/* Places in the program, each once, in order of coming. */
struct places {
    uint32_t n;
    uint32_t *at;
    uint8_t *in; /* by place */
};

static bool holds(enum place place, struct slice s, size_t pos)
{
    bool before = pos > 0 && is_word(s.ptr[pos - 1]), after = pos < s.len && is_word(s.ptr[pos]);

    switch (place) {
    case AT_BEGIN:
        return pos == 0;
    case AT_END:
        return pos == s.len;
    case AT_WORD:
        return before != after;
    case AT_NO_WORD:
        return before == after;
    }
    return false;
}

static void places_add(struct places *ps, uint32_t at)
{
    if (ps->in[at])
        return;
    ps->in[at] = 1;
    ps->at[ps->n++] = at;
}

/* Adds every place that is reached without a byte. The list grows while it is walked. */
static void places_close(const struct topic_regex *r, struct places *ps, struct slice s, size_t pos)
{
    uint32_t i;

    for (i = 0; i < ps->n; i++) {
        const struct inst *in = &r->prog[ps->at[i]];

        if (in->op == I_SPLIT || in->op == I_JUMP)
            places_add(ps, in->x);
        if (in->op == I_SPLIT)
            places_add(ps, in->y);
        if (in->op == I_AT && holds((enum place)in->x, s, pos))
            places_add(ps, ps->at[i] + 1);
    }
}

bool topic_regex_match(const struct topic_regex *r, struct slice name)
{
    size_t each = r->n * (sizeof(uint32_t) + 1), pos;
    uint8_t *memory = xcalloc(2, each);
    struct places now = {.at = (uint32_t *)memory, .in = memory + r->n * sizeof(uint32_t)};
    uint32_t *second = xcalloc(r->n, sizeof(uint32_t)), i;
    struct places next = {.at = second, .in = memory + each};
    bool match = false;

    places_add(&now, 0);
    places_close(r, &now, name, 0);
    for (pos = 0; pos < name.len && now.n; pos++) {
        struct places swap;

        for (i = 0; i < now.n; i++) {
            const struct inst *in = &r->prog[now.at[i]];

            if (in->op == I_SET && set_has(&r->sets[in->x], name.ptr[pos]))
                places_add(&next, now.at[i] + 1);
        }
        places_close(r, &next, name, pos + 1);
        memset(now.in, 0, r->n);
        now.n = 0;
        swap = now;
        now = next;
        next = swap;
    }
    for (i = 0; i < now.n && !match; i++)
        match = r->prog[now.at[i]].op == I_MATCH;
    free(second);
    free(memory);
    return match;
}
