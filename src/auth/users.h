/* Users with passwords: SCRAM credentials, stored durably as key-value items (namespace "scram", key:
 * number of the mechanism, ':', name), and those of a file that the operator keeps, whose passwords
 * are turned into credentials when it is read. Any thread; a file's users never change. */
#ifndef WEIR_AUTH_USERS_H
#define WEIR_AUTH_USERS_H

#include "auth/scram.h"

struct broker;
struct file_users;
struct io;

#define USERS_NS      "scram"
#define USERS_KEY_MAX (2u + SCRAM_USER_MAX)

/* The key of a stored credential, in out; name at most SCRAM_USER_MAX. */
struct slice users_key(enum scram_mech m, struct slice name, uint8_t out[USERS_KEY_MAX]);
/* What is stored; false: nothing is. */
bool users_stored(struct broker *b, enum scram_mech m, struct slice name, struct scram_cred *out);

/* Lines "name:password", "#" and what follows at the start of one is a comment. ERR_CONFIG. */
enum err file_users_new(struct io *io, struct slice text, struct file_users **out,
                        struct errinfo *info);
/* Reads the file, of 4 MiB at most. */
enum err file_users_read(struct io *io, const char *path, struct file_users **out,
                         struct errinfo *info);
void file_users_free(struct file_users **u);
/* us may be NULL: nobody. */
bool file_users_find(const struct file_users *us, enum scram_mech m, const char *name,
                     struct scram_cred *out);

#endif
