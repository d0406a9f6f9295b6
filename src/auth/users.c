/* Users with passwords. See users.h. */
#include "auth/users.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/mem.h"
#include "broker/broker.h"
#include "io/io.h"

#define FILE_USERS_MAX 10000u
#define FILE_MAX       (4u << 20)

struct slice users_key(enum scram_mech m, struct slice user, uint8_t out[USERS_KEY_MAX])
{
    out[0] = (uint8_t)('0' + m);
    out[1] = ':';
    if (user.len)
        memcpy(out + 2, user.ptr, user.len);
    return slice_of(out, 2 + user.len);
}

/* ---- the file ---- */

struct file_user {
    char name[SCRAM_USER_MAX + 1];
    struct scram_cred cred[2]; /* by SHA-256, SHA-512 */
};

struct file_users {
    unsigned n, cap;
    struct file_user *user;
};

static enum err line_read(struct io *io, struct slice line, unsigned number, struct file_users *us,
                          struct errinfo *info)
{
    const uint8_t *colon = memchr(line.ptr, ':', line.len);
    size_t name_len = colon ? (size_t)(colon - line.ptr) : 0;
    struct file_user *u;
    uint8_t salt[2][16];

    if (name_len == 0 || name_len > SCRAM_USER_MAX || line.len - name_len < 2)
        return errinfo_set(info, ERR_CONFIG, "line %u of the file of users is not name:password",
                           number);
    if (us->n == FILE_USERS_MAX)
        return errinfo_set(info, ERR_CONFIG, "the file of users has more than %u", FILE_USERS_MAX);
    if (us->n == us->cap) {
        us->cap = us->cap ? us->cap * 2 : 16;
        us->user = xrealloc(us->user, us->cap * sizeof *us->user);
    }
    u = &us->user[us->n++];
    memset(u, 0, sizeof *u);
    memcpy(u->name, line.ptr, name_len);
    io_random(io, salt, sizeof salt);
    line = slice_of(colon + 1, line.len - name_len - 1);
    scram_cred_make(SCRAM_SHA_256, line, slice_of(salt[0], 16), SCRAM_ITERATIONS_MIN, &u->cred[0]);
    scram_cred_make(SCRAM_SHA_512, line, slice_of(salt[1], 16), SCRAM_ITERATIONS_MIN, &u->cred[1]);
    return ERR_OK;
}

enum err file_users_new(struct io *io, struct slice text, struct file_users **out,
                        struct errinfo *info)
{
    struct file_users *us = xcalloc(1, sizeof *us);
    enum err e = ERR_OK;
    unsigned number = 0;

    while (text.len && !e) {
        const uint8_t *end = memchr(text.ptr, '\n', text.len);
        size_t n = end ? (size_t)(end - text.ptr) : text.len, len = n;

        number++;
        if (len && text.ptr[len - 1] == '\r')
            len--;
        if (len && text.ptr[0] != '#')
            e = line_read(io, slice_of(text.ptr, len), number, us, info);
        text = slice_of(text.ptr + n + (end != NULL), text.len - n - (end != NULL));
    }
    *out = us;
    if (e)
        file_users_free(out);
    return e;
}

void file_users_free(struct file_users **usp)
{
    struct file_users *us = *usp;

    if (us && us->user)
        OPENSSL_cleanse(us->user, us->n * sizeof *us->user);
    if (us)
        free(us->user);
    free(us);
    *usp = NULL;
}

bool file_users_find(const struct file_users *us, enum scram_mech m, const char *name,
                     struct scram_cred *out)
{
    unsigned i;

    for (i = 0; us && i < us->n; i++)
        if (strcmp(us->user[i].name, name) == 0) {
            *out = us->user[i].cred[m - 1];
            return true;
        }
    return false;
}

enum err file_users_read(struct io *io, const char *path, struct file_users **out,
                         struct errinfo *info)
{
    struct buf text;
    enum err e;

    *out = NULL;
    buf_init(&text, FILE_MAX + 1);
    e = io_text(io, path, &text, info);
    if (!e)
        e = file_users_new(io, buf_slice(&text), out, info);
    if (text.ptr)
        OPENSSL_cleanse(text.ptr, text.cap);
    buf_fini(&text);
    return e;
}

/* ---- stored ---- */

bool users_stored(struct broker *b, enum scram_mech m, struct slice user, struct scram_cred *out)
{
    uint8_t key[USERS_KEY_MAX];
    struct buf value;
    bool ok;

    buf_init(&value, SCRAM_STORED_MAX);
    ok = user.len <= SCRAM_USER_MAX &&
         kv_get(b, USERS_NS, users_key(m, user, key), &value) == ERR_OK &&
         scram_cred_read(m, buf_slice(&value), out);
    if (value.ptr)
        OPENSSL_cleanse(value.ptr, value.len);
    buf_fini(&value);
    return ok;
}
