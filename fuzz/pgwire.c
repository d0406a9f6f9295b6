/* Fuzzes what a PostgreSQL client may say: the first byte chooses between a first message and those that
 * follow; each is decoded in every way that its type has, its parameters read as every type, and texts
 * taken apart and looked at as statements about the session. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/pgwire/msg.h"
#include "proto/pgwire/session.h"
#include "proto/pgwire/types.h"
#include "rows/lex.h"

static void text(struct slice in)
{
    struct session_answer a;
    struct session s;
    struct slice one;

    session_init(&s, SLICE_LIT("u"), SLICE_LIT("d"));
    (void)lex_params(in);
    while (lex_statement(&in, &one))
        session_take(&s, one, false, &a);
}

static void bind(const struct pg_bind *m)
{
    static const uint32_t oids[] = {1007,         1009,           0,       PG_BOOL,    PG_BYTEA,
                                    PG_INT2,      PG_INT4,        PG_INT8, PG_FLOAT4,  PG_DATE,
                                    PG_TIMESTAMP, PG_TIMESTAMPTZ, PG_TIME, PG_NUMERIC, PG_JSONB,
                                    PG_UUID};
    struct slice rest = m->params;
    struct sql_param p;
    struct arena a;
    unsigned i, k;

    arena_init(&a, 1024, 1u << 20);
    for (i = 0; i < m->params_n; i++) {
        struct slice v = pg_bind_param(&rest);

        for (k = 0; k < sizeof oids / sizeof *oids; k++)
            (void)pg_param_read(oids[k], pg_format(m->formats, m->formats_n, i), v, &a, &p, NULL);
    }
    arena_fini(&a);
}

static void message(uint8_t type, struct slice body)
{
    struct pg_sasl_initial sasl;
    struct pg_execute execute;
    struct pg_target target;
    struct pg_parse parse;
    struct slice one;
    struct pg_bind b;

    if (type == 'B' && !pg_bind_decode(body, &b))
        bind(&b);
    else if (type == 'P' && !pg_parse_decode(body, &parse))
        text(parse.sql);
    else if (type == 'Q' && !pg_text_decode(body, &one))
        text(one);
    (void)pg_target_decode(body, &target);
    (void)pg_execute_decode(body, &execute);
    (void)pg_sasl_initial_decode(body, &sasl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct slice in = slice_of(data + (n > 0), n - (n > 0)), body, name, value;
    struct pg_startup m;
    size_t used, need;
    uint8_t type;

    if (n && data[0] & 1 && !pg_frame(in, true, 10000, &type, &body, &used, &need) &&
        !pg_startup_decode(body, &m))
        while (m.params.len && pg_startup_param(&m.params, &name, &value))
            ;
    while (n && !(data[0] & 1) && !pg_frame(in, false, 1u << 20, &type, &body, &used, &need)) {
        message(type, body);
        in = slice_of(in.ptr + used, in.len - used);
    }
    return 0;
}
