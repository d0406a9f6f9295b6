/* What the loads of this folder have in common: a connection to a server that speaks NATS, and its
 * lines. After an error they say what was wrong and exit. */
#ifndef WEIR_BENCH_NATS_CLIENT_H
#define WEIR_BENCH_NATS_CLIENT_H

#include <stddef.h>

extern int load_port;

_Noreturn void die(const char *what);
double now(void); /* seconds */
void send_all(int fd, const char *p, size_t n);
/* Everything sent before has been taken by the server. */
void sync_up(int fd);
/* A connection that has said CONNECT. */
int dial(void);
/* queue: "", none. */
void subscribe(int fd, const char *subject, const char *queue, int sid);

#endif
