/* Hexadecimal and base64 (RFC 4648, with padding). Any thread. */
#ifndef WEIR_BASE_HEX_H
#define WEIR_BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes 2n lower-case digits and a NUL. */
void hex_encode(const void *p, size_t n, char *out);
/* 2n digits of either case -> n bytes; false if one is not a digit. */
bool hex_decode(const char *s, size_t n, uint8_t *out);
#define BASE64_LEN(n) (((n) + 2) / 3 * 4)
/* Writes BASE64_LEN(n) characters and a NUL. */
void base64_encode(const void *p, size_t n, char *out);
/* Writes at most len / 4 * 3 bytes; false if s is not base64. */
bool base64_decode(const char *s, size_t len, uint8_t *out, size_t *out_len);

#endif
