/* Messages of PostgreSQL's frontend/backend protocol, version 3 (PostgreSQL documentation, chapter
 * "Frontend/Backend Protocol", sections "Message Formats" and "Message Flow"): frames, what a client
 * says, and the writing of what a server says. Integers are big-endian, texts end with a NUL.
 *
 * Decoding borrows: slices point into the frame. Every length and count is checked against the bytes
 * that are there before it is believed. No I/O; any thread. */
#ifndef WEIR_PROTO_PGWIRE_MSG_H
#define WEIR_PROTO_PGWIRE_MSG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

/* Codes in the place of a version in the first message. */
#define PG_VERSION_3    196608u /* 3.0; 3.2 asks for more and is answered with 3.0 */
#define PG_CODE_CANCEL  80877102u
#define PG_CODE_SSL     80877103u
#define PG_CODE_GSS     80877104u
#define PG_PARAMS_MAX   65535u
#define PG_STARTUP_HEAD 8u /* length and code */

/* A frame at the front of `in`. first: the connection's first message, which has no type. *used: its
 * bytes in all. ERR_AGAIN: not whole yet (*need, at least so many bytes in all, is known once the
 * head is there, else 0); ERR_TOO_LARGE; ERR_CORRUPT_INPUT. */
enum err pg_frame(struct slice in, bool first, uint32_t max, uint8_t *type, struct slice *body,
                  size_t *used, size_t *need);

/* Reads forward; after the first thing that is not there `bad` stays set and all is 0 or NULL. */
struct pg_reader {
    const uint8_t *p, *end;
    bool bad;
};
void pg_reader_init(struct pg_reader *r, struct slice s);
uint8_t pg_u8(struct pg_reader *r);
uint16_t pg_u16(struct pg_reader *r);
uint32_t pg_u32(struct pg_reader *r);
/* Without its NUL; there is one behind it. */
struct slice pg_text(struct pg_reader *r);
struct slice pg_bytes(struct pg_reader *r, size_t n);

/* ---- what a client says ---- */

struct pg_startup {
    uint32_t code;
    uint32_t pid, secret;  /* CancelRequest */
    struct slice params;   /* "name" NUL "value" NUL …, checked to be whole pairs */
    struct slice user, db; /* of them; NULL: not given */
};
enum err pg_startup_decode(struct slice body, struct pg_startup *out);
/* Takes the next pair off params. */
bool pg_startup_param(struct slice *params, struct slice *name, struct slice *value);

struct pg_parse {
    struct slice name, sql;
    uint16_t oids_n;
    const uint8_t *oids; /* 4 bytes each */
};
enum err pg_parse_decode(struct slice body, struct pg_parse *out);

struct pg_bind {
    struct slice portal, statement;
    uint16_t formats_n, params_n, results_n;
    const uint8_t *formats, *results; /* 2 bytes each: 0 text, 1 binary */
    struct slice params;              /* for pg_bind_param */
};
enum err pg_bind_decode(struct slice body, struct pg_bind *out);
/* Takes the next value off params: NULL ptr is SQL's NULL. */
struct slice pg_bind_param(struct slice *params);
/* The format of value i: of all, if one was given; text if none. */
uint16_t pg_format(const uint8_t *formats, uint16_t n, unsigned i);

struct pg_target { /* Describe, Close */
    uint8_t kind;  /* 'S' or 'P' */
    struct slice name;
};
enum err pg_target_decode(struct slice body, struct pg_target *out);

struct pg_execute {
    struct slice portal;
    uint32_t rows; /* 0: all */
};
enum err pg_execute_decode(struct slice body, struct pg_execute *out);

/* Query, PasswordMessage: one text. */
enum err pg_text_decode(struct slice body, struct slice *out);

struct pg_sasl_initial {
    struct slice mech, data;
};
enum err pg_sasl_initial_decode(struct slice body, struct pg_sasl_initial *out);

/* ---- what a server says: appended to a buffer whose maximum the caller knows to be enough ---- */

/* Where pg_end finds the length. */
size_t pg_begin(struct buf *b, char type);
void pg_end(struct buf *b, size_t at);
/* Ends a message whose size the caller cannot know: type at `at`, then room for the length. e, or a
 * message of more than 2 GiB: it is taken back. */
enum err pg_message_end(struct buf *out, size_t at, enum err e);
void pg_empty(struct buf *b, char type);
void pg_auth(struct buf *b, uint32_t kind, struct slice data);
void pg_parameter(struct buf *b, const char *name, const char *value);
void pg_ready(struct buf *b, char state);
void pg_complete(struct buf *b, const char *tag);

struct pg_error {
    const char *severity; /* "ERROR", "FATAL", "NOTICE" … */
    const char *code;     /* SQLSTATE */
    const char *message;
    const char *detail, *hint; /* NULL: none */
    uint32_t position;         /* character in the query, from 1; 0: none */
};
/* ErrorResponse, or NoticeResponse if the severity is not ERROR, FATAL or PANIC. */
void pg_error(struct buf *b, const struct pg_error *e);
/* One column of a RowDescription that was begun; typlen as pg_type has it. */
void pg_column(struct buf *b, struct slice name, uint32_t oid, int16_t typlen, int32_t typmod,
               uint16_t format);

#endif
