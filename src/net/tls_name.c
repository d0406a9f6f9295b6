/* The name in a peer's certificate, as a text by which rules can name it: its subject as RFC 2253
 * writes it, and as Java's X500Principal does, so that rules written for an Apache Kafka server mean
 * the same here. That is: the last part first, commas without spaces; the nine types of RFC 2253 by
 * name, and others by number with their bytes in hex; Unicode as UTF-8. */
#include <openssl/ssl.h>
#include <string.h>

#include "base/buf.h"
#include "net/conn.h"

static const struct {
    int nid;
    const char *word;
} words[] = {{NID_commonName, "CN"},
             {NID_countryName, "C"},
             {NID_localityName, "L"},
             {NID_stateOrProvinceName, "ST"},
             {NID_organizationName, "O"},
             {NID_organizationalUnitName, "OU"},
             {NID_streetAddress, "STREET"},
             {NID_domainComponent, "DC"},
             {NID_userId, "UID"}};

static const char *word_of(const ASN1_OBJECT *type)
{
    int nid = OBJ_obj2nid(type);
    size_t i;

    for (i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i].nid == nid)
            return words[i].word;
    return NULL;
}

static bool is_text(const ASN1_STRING *v)
{
    switch (ASN1_STRING_type(v)) {
    case V_ASN1_UTF8STRING:
    case V_ASN1_PRINTABLESTRING:
    case V_ASN1_T61STRING:
    case V_ASN1_IA5STRING:
    case V_ASN1_GENERALSTRING:
    case V_ASN1_BMPSTRING:
    case V_ASN1_UNIVERSALSTRING:
        return true;
    default:
        return false;
    }
}

/* Spaces at both ends are escaped, as are the characters that mean something. */
static enum err text_put(struct slice s, struct buf *out)
{
    size_t i, lead = 0, end = s.len;
    enum err e = ERR_OK;

    while (lead < s.len && (s.ptr[lead] == ' ' || s.ptr[lead] == '\r'))
        lead++;
    while (end > lead && (s.ptr[end - 1] == ' ' || s.ptr[end - 1] == '\r'))
        end--;
    for (i = 0; i < s.len && !e; i++) {
        uint8_t c = s.ptr[i];

        if (c == 0) {
            e = buf_append_str(out, "\\00");
            continue;
        }
        if (i < lead || i >= end || strchr(",=+<>#;\"\\", c))
            e = buf_append_u8(out, '\\');
        if (!e)
            e = buf_append_u8(out, c);
    }
    return e;
}

static enum err hex_put(const ASN1_STRING *v, struct buf *out)
{
    static const char digits[] = "0123456789abcdef";
    ASN1_TYPE t = {.type = ASN1_STRING_type(v), .value.asn1_string = (ASN1_STRING *)(uintptr_t)v};
    unsigned char *der = NULL;
    int n = i2d_ASN1_TYPE(&t, &der), i;
    enum err e = n < 0 ? ERR_INVALID : buf_append_u8(out, '#');

    for (i = 0; i < n && !e; i++) {
        e = buf_append_u8(out, (uint8_t)digits[der[i] >> 4]);
        if (!e)
            e = buf_append_u8(out, (uint8_t)digits[der[i] & 15]);
    }
    OPENSSL_free(der);
    return e;
}

static enum err entry_put(const X509_NAME_ENTRY *x, struct buf *out)
{
    const ASN1_OBJECT *type = X509_NAME_ENTRY_get_object(x);
    const ASN1_STRING *value = X509_NAME_ENTRY_get_data(x);
    const char *word = word_of(type);
    unsigned char *utf8 = NULL;
    char number[128];
    int n;
    enum err e;

    if (!word) {
        n = OBJ_obj2txt(number, sizeof number, type, 1);
        if (n <= 0 || n >= (int)sizeof number)
            return ERR_INVALID;
    }
    e = buf_append_str(out, word ? word : number);
    if (!e)
        e = buf_append_u8(out, '=');
    if (e || !word || !is_text(value))
        return e ? e : hex_put(value, out);
    n = ASN1_STRING_to_UTF8(&utf8, value);
    e = n < 0 ? ERR_INVALID : text_put(slice_of(utf8, (size_t)n), out);
    OPENSSL_free(utf8);
    return e;
}

/* Sets from the last to the first; the parts of one set as they stand. */
static enum err name_put(const X509_NAME *name, struct buf *out)
{
    int end = X509_NAME_entry_count(name), from, i;
    enum err e = ERR_OK;

    for (; end > 0 && !e; end = from) {
        int set = X509_NAME_ENTRY_set(X509_NAME_get_entry(name, end - 1));

        for (from = end - 1; from > 0; from--)
            if (X509_NAME_ENTRY_set(X509_NAME_get_entry(name, from - 1)) != set)
                break;
        for (i = from; i < end && !e; i++) {
            if (i > from || end < X509_NAME_entry_count(name))
                e = buf_append_u8(out, i > from ? '+' : ',');
            if (!e)
                e = entry_put(X509_NAME_get_entry(name, i), out);
        }
    }
    return e;
}

enum err tls_peer_name(void *ssl, struct buf *out)
{
    X509 *x = SSL_get0_peer_certificate(ssl);

    return x ? name_put(X509_get_subject_name(x), out) : ERR_NOT_FOUND;
}
