/* TLS by OpenSSL 3: one configuration shared by all connections of a listener, whose certificate
 * can be exchanged while running. TLS 1.2 at least, no renegotiation, no compression; ALPN offers
 * h2 and http/1.1. */
#ifndef WEIR_NET_TLS_H
#define WEIR_NET_TLS_H

#include "base/err.h"

struct tls_conf;
/* PEM files; keys must not be encrypted. client_ca (may be NULL): clients must show a certificate
 * signed by it. ERR_CONFIG names the file and OpenSSL's reason. */
enum err tls_conf_new(const char *cert_file, const char *key_file, const char *client_ca,
                      struct tls_conf **out, struct errinfo *info);
/* Reads the files again, for the connections to come; on error the old certificate stays. Any
 * thread. */
enum err tls_conf_reload(struct tls_conf *t, struct errinfo *info);
/* No listener uses it any more. */
void tls_conf_free(struct tls_conf **t);

#endif
