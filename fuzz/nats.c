/* Fuzzes the lines of NATS's clients: the input as one stream, whole and cut at a place that its first
 * byte names; what was found must lie within the input, and both ways must find the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/subject.h"
#include "proto/nats/parse.h"

#define LINE    512u
#define PAYLOAD 4096u

static void inside(struct slice in, struct slice s)
{
    if (s.len && (s.ptr < in.ptr || s.ptr + s.len > in.ptr + in.len))
        abort();
}

static size_t one(struct slice in, struct nats_line *l)
{
    size_t used = nats_parse(in, LINE, PAYLOAD, l);

    if (used > in.len || (l->op == NATS_MORE && used) || l->header_len > PAYLOAD)
        abort();
    if (!used)
        return 0;
    inside(in, l->subject);
    inside(in, l->reply);
    inside(in, l->queue);
    inside(in, l->sid);
    inside(in, l->body);
    inside(in, l->json);
    if (subject_literal(l->subject) && !subject_match(l->subject, l->subject))
        abort();
    if (subject_valid(l->subject) && subject_valid(l->reply) &&
        subject_covers(l->subject, l->reply) && !subjects_meet(l->subject, l->reply))
        abort();
    return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nats_line whole, part;
    struct slice in;
    size_t used, cut;

    if (size < 1)
        return 0;
    cut = data[0];
    in = slice_of(data + 1, size - 1);
    while ((used = one(in, &whole))) {
        size_t n = used ? cut % used : 0;

        if (one(slice_of(in.ptr, n), &part) || part.op != NATS_MORE ||
            (part.need && part.need != used))
            abort(); /* the beginning of a good line is not an error, nor a line */
        in = slice_of(in.ptr + used, in.len - used);
        if (!in.len)
            break;
    }
    return 0;
}
