/* The parts of security put together: what the configuration says, the files of users and keys, the
 * tables of rules and quotas. See security.h. */
#include "proto/kafka/security.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/io.h"

#define FILE_MAX   (4u << 20)
#define SUPERS_MAX 1000u
#define EDITS_MAX  10000u /* at a time; others wait */

/* The next of the words separated by commas, semicolons and spaces; false at the end. */
static bool word_next(const char **at, struct slice *word)
{
    *at += strspn(*at, ",; \t");
    *word = slice_of(*at, strcspn(*at, ",; \t"));
    *at += word->len;
    return word->len > 0;
}

static enum err mechs_read(struct ksec *s, struct errinfo *info)
{
    const char *at = s->conf->sasl_mechanisms ? s->conf->sasl_mechanisms : "";
    struct slice word;

    while (word_next(&at, &word)) {
        enum sasl_mech m = sasl_mech_of(word);

        if (!m)
            return errinfo_set(info, ERR_CONFIG,
                               "\"%.*s\" is no SASL mechanism; there are PLAIN, SCRAM-SHA-256, "
                               "SCRAM-SHA-512 and OAUTHBEARER",
                               (int)(word.len < 100 ? word.len : 100), (const char *)word.ptr);
        s->mechs |= 1u << m;
    }
    if (s->mechs & 1u << SASL_OAUTH && !(s->conf->sasl_jwks && *s->conf->sasl_jwks))
        return errinfo_set(info, ERR_CONFIG,
                           "OAUTHBEARER needs a file with the keys that sign tokens");
    return ERR_OK;
}

/* The next of User:NAME. Names that certificates have hold commas and spaces, so between two is a
 * semicolon, or a comma or space that the next one's "User:" follows. */
static bool super_next(const char **at, struct slice *word)
{
    const char *end;

    *at += strspn(*at, ",; \t");
    for (end = *at; *end && *end != ';'; end++)
        if (strchr(", \t", *end) && strncmp(end + strspn(end, ", \t"), "User:", 5) == 0)
            break;
    *word = slice_of(*at, (size_t)(end - *at));
    *at = end;
    while (word->len && strchr(", \t", word->ptr[word->len - 1]))
        word->len--;
    return word->len > 0;
}

static enum err supers_read(struct ksec *s, struct errinfo *info)
{
    const char *at = s->conf->super_users ? s->conf->super_users : "";
    struct slice word;

    s->supers = xcalloc(SUPERS_MAX, sizeof *s->supers);
    while (super_next(&at, &word)) {
        if (!slice_has_prefix(word, SLICE_LIT("User:")) || word.len == 5)
            return errinfo_set(info, ERR_CONFIG, "\"%.*s\" is not User:NAME",
                               (int)(word.len < 100 ? word.len : 100), (const char *)word.ptr);
        if (s->supers_n == SUPERS_MAX)
            return errinfo_set(info, ERR_CONFIG, "there are more than %u super users", SUPERS_MAX);
        s->supers[s->supers_n++] = slice_of(word.ptr + 5, word.len - 5);
    }
    return ERR_OK;
}

static enum err files_read(struct ksec *s, struct jwks **keys, struct file_users **users,
                           struct errinfo *info)
{
    const char *jwks = s->conf->sasl_jwks, *file = s->conf->sasl_users;
    struct buf text;
    enum err e = ERR_OK;

    *keys = NULL;
    *users = NULL;
    buf_init(&text, FILE_MAX + 1);
    if (jwks && *jwks && !(e = io_text(broker_io(s->b), jwks, &text, info)))
        e = jwks_new(buf_slice(&text), keys, info);
    if (!e && file && *file)
        e = file_users_read(broker_io(s->b), file, users, info);
    buf_fini(&text);
    return e;
}

enum err kafka_reload(struct kafka *k, struct errinfo *info)
{
    struct ksec *s = k->sec;
    struct file_users *users, *old_users;
    struct jwks *keys, *old_keys;
    enum err e = files_read(s, &keys, &users, info);

    if (e) {
        jwks_free(&keys);
        file_users_free(&users);
        return e;
    }
    io_rwlock_write(&s->lock);
    old_keys = s->jwks;
    old_users = s->users;
    s->jwks = keys;
    s->users = users;
    io_rwlock_unlock(&s->lock);
    jwks_free(&old_keys);
    file_users_free(&old_users);
    return ERR_OK;
}

bool kedit_begin(struct ksec *s, struct slice key)
{
    bool begun;

    io_mutex_lock(&s->edits_lock);
    begun = map_put(&s->edits, key, s) == ERR_OK;
    io_mutex_unlock(&s->edits_lock);
    return begun;
}

void kedit_end(struct ksec *s, struct slice key)
{
    io_mutex_lock(&s->edits_lock);
    map_remove(&s->edits, key);
    io_mutex_unlock(&s->edits_lock);
}

enum err ksec_new(struct kafka *k, struct errinfo *info)
{
    struct ksec *s = k->sec = xcalloc(1, sizeof *s);
    uint8_t seed[16];
    enum err e;

    s->b = k->broker;
    s->conf = &k->conf;
    io_rwlock_init(&s->lock);
    io_mutex_init(&s->load);
    io_mutex_init(&s->edits_lock);
    io_random(broker_io(s->b), seed, sizeof seed);
    map_init(&s->edits, EDITS_MAX, seed);
    io_random(broker_io(s->b), s->secret, sizeof s->secret);
    if ((e = mechs_read(s, info)) || (e = supers_read(s, info)) || (e = kafka_reload(k, info)))
        return e;
    kacls_load(s);
    kquotas_load(s);
    return ERR_OK;
}

void ksec_free(struct kafka *k)
{
    struct ksec *s = k->sec;

    if (!s)
        return;
    kacls_free(s);
    kquotas_free(s);
    jwks_free(&s->jwks);
    file_users_free(&s->users);
    io_rwlock_fini(&s->lock);
    io_mutex_fini(&s->load);
    map_fini(&s->edits);
    io_mutex_fini(&s->edits_lock);
    free(s->supers);
    free(s);
    k->sec = NULL;
}
