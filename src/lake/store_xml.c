/* The XML that S3 answers with, by expat: a walk that tells each element's path and text. See
 * store_int.h. */
#include <expat.h>
#include <stdio.h>
#include <string.h>

#include "lake/store_int.h"

#define DEPTH_MAX 16u
#define PATH_MAX_ 512u
#define TEXT_MAX  (64u << 10)

struct walk {
    void (*fn)(void *arg, const char *path, struct slice text);
    void *arg;
    XML_Parser parser;
    char path[PATH_MAX_];
    size_t at[DEPTH_MAX]; /* length of the path in front of each open element */
    unsigned depth;
    struct buf text;
    bool bad;
};

static void fail(struct walk *w)
{
    w->bad = true;
    XML_StopParser(w->parser, XML_FALSE);
}

static void XMLCALL on_start(void *arg, const XML_Char *name, const XML_Char **attrs)
{
    struct walk *w = arg;
    size_t n = strlen(w->path), len = strlen(name);

    (void)attrs;
    if (w->depth == DEPTH_MAX || n + len + 2 > sizeof w->path) {
        fail(w);
        return;
    }
    w->at[w->depth++] = n;
    if (n)
        w->path[n++] = '/';
    memcpy(w->path + n, name, len + 1);
    buf_clear(&w->text);
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
    struct walk *w = arg;

    (void)name;
    if (w->bad || w->depth == 0)
        return;
    w->fn(w->arg, w->path, buf_slice(&w->text));
    w->path[w->at[--w->depth]] = 0;
    buf_clear(&w->text);
}

static void XMLCALL on_text(void *arg, const XML_Char *s, int len)
{
    struct walk *w = arg;

    if (!w->bad && buf_append(&w->text, s, (size_t)len))
        fail(w);
}

enum err store_xml_each(struct slice doc,
                        void (*fn)(void *arg, const char *path, struct slice text), void *arg)
{
    struct walk w = {.fn = fn, .arg = arg};
    enum err e = ERR_OK;

    if (doc.len > INT32_MAX)
        return ERR_CORRUPT_INPUT;
    w.parser = XML_ParserCreate(NULL);
    if (!w.parser)
        return ERR_NO_MEMORY;
    buf_init(&w.text, TEXT_MAX);
    XML_SetUserData(w.parser, &w);
    XML_SetElementHandler(w.parser, on_start, on_end);
    XML_SetCharacterDataHandler(w.parser, on_text);
    if (XML_Parse(w.parser, (const char *)doc.ptr, (int)doc.len, 1) != XML_STATUS_OK || w.bad)
        e = ERR_CORRUPT_INPUT;
    XML_ParserFree(w.parser);
    buf_fini(&w.text);
    return e;
}

enum err store_xml_escape(struct buf *out, struct slice text)
{
    enum err e = ERR_OK;
    size_t i;

    for (i = 0; !e && i < text.len; i++) {
        uint8_t c = text.ptr[i];

        if (c == '<')
            e = buf_append_str(out, "&lt;");
        else if (c == '>')
            e = buf_append_str(out, "&gt;");
        else if (c == '&')
            e = buf_append_str(out, "&amp;");
        else if (c == '"')
            e = buf_append_str(out, "&quot;");
        else if (c < 0x20)
            e = buf_printf(out, "&#x%X;", c);
        else
            e = buf_append_u8(out, c);
    }
    return e;
}
