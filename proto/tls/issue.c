/* SPDX-License-Identifier: Apache-2.0 */
/* Making certificates. What is in them follows RFC 5280: an authority may sign certificates of ends
 * only (path length 0), an end's key may sign handshakes. What it may do is said by its extended
 * key usage, and for Millrace by its role (tls.h). */
#include "proto/tls/issue.h"

#include "proto/base/assert.h"
#include "proto/tls/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_S         86400L
#define BACKDATED_S   3600L
#define NAME_LENGTH   64 /* of a common name at most: RFC 5280 A.1 */
#define SERIAL_BYTES  16
#define KEY_MODE      0600
#define CERT_MODE     0644
#define HOST_TEXT_MAX 253
#define COPY_BYTES    16384

/* Files. */

static enum status file_error(struct tls_error *error, const char *file)
{
    int code = errno;
    snprintf(error->text, sizeof error->text, "%.180s: %.60s", file, strerror(code));
    return code == EEXIST ? STATUS_EXISTS : status_from_errno(code);
}

static enum status library_error(struct tls_error *error, const char *what)
{
    snprintf(error->text, sizeof error->text, "%s: %s", what, tls_library_error());
    return STATUS_INVALID;
}

static bool write_all(int fd, struct slice bytes)
{
    while (bytes.length > 0) {
        ssize_t count = write(fd, bytes.data, bytes.length);
        if (count < 0 && errno != EINTR)
            return false;
        bytes = slice_sub(bytes, count > 0 ? (size_t)count : 0);
    }
    return fsync(fd) == 0;
}

/* Write beside the file, then rename, or link where no file may be replaced. */
static enum status file_put(const char *file, struct slice bytes, mode_t mode, bool replace,
                            struct tls_error *error)
{
    char beside[4096];
    int length = snprintf(beside, sizeof beside, "%s.new", file);
    if (length < 0 || (size_t)length >= sizeof beside) {
        errno = ENAMETOOLONG;
        return file_error(error, file);
    }
    (void)unlink(beside);
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return file_error(error, file);
    bool good = fchmod(fd, mode) == 0 && write_all(fd, bytes);
    good = close(fd) == 0 && good;
    if (good)
        good = replace ? rename(beside, file) == 0 : link(beside, file) == 0;
    enum status status = good ? STATUS_OK : file_error(error, file);
    if (!good || !replace)
        (void)unlink(beside);
    return status;
}

static struct slice bytes_of(BIO *bio)
{
    char *data;
    long length = BIO_get_mem_data(bio, &data);
    return slice_make(data, (size_t)length);
}

static enum status put_key(const EVP_PKEY *key, const char *file, bool replace,
                           struct tls_error *error)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    ASSERT(bio != NULL);
    int rc = PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    ASSERT(rc == 1);
    enum status status = file_put(file, bytes_of(bio), KEY_MODE, replace, error);
    BIO_free(bio);
    return status;
}

static enum status put_certificate(X509 *certificate, const char *file, bool replace,
                                   struct tls_error *error)
{
    BIO *bio = BIO_new(BIO_s_mem());
    ASSERT(bio != NULL);
    int rc = PEM_write_bio_X509(bio, certificate);
    ASSERT(rc == 1);
    enum status status = file_put(file, bytes_of(bio), CERT_MODE, replace, error);
    BIO_free(bio);
    return status;
}

/* Certificates. */

static void set_serial(X509 *certificate)
{
    unsigned char bytes[SERIAL_BYTES];
    int rc = RAND_bytes(bytes, sizeof bytes);
    ASSERT(rc == 1);
    bytes[0] = (bytes[0] & 0x7f) | 0x40; /* positive, and of one length */
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    ASSERT(number != NULL);
    ASN1_INTEGER *serial = BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
    ASSERT(serial != NULL);
    BN_free(number);
}

/* A version 3 certificate of `key`, not signed yet. */
static X509 *certificate_begin(EVP_PKEY *key, const char *name, unsigned days)
{
    X509 *certificate = X509_new();
    ASSERT(certificate != NULL);
    set_serial(certificate);
    X509_NAME *subject = X509_get_subject_name(certificate);
    bool good = X509_set_version(certificate, X509_VERSION_3) == 1 &&
                X509_gmtime_adj(X509_getm_notBefore(certificate), -BACKDATED_S) != NULL &&
                X509_gmtime_adj(X509_getm_notAfter(certificate), (long)days * DAY_S) != NULL &&
                X509_set_pubkey(certificate, key) == 1 &&
                X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                           (const unsigned char *)name, -1, -1, 0) == 1;
    ASSERT(good);
    return certificate;
}

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX about;
    X509V3_set_ctx(&about, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &about, nid, value);
    ASSERT(extension != NULL);
    int rc = X509_add_ext(certificate, extension, -1);
    ASSERT(rc == 1);
    X509_EXTENSION_free(extension);
}

static bool add_name(GENERAL_NAMES *names, int type, const char *value)
{
    GENERAL_NAME *name = a2i_GENERAL_NAME(NULL, NULL, NULL, type, (char *)(uintptr_t)value, 0);
    return name != NULL && sk_GENERAL_NAME_push(names, name) > 0;
}

static bool host_is_address(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static bool host_is_name(const char *host)
{
    size_t length = strlen(host);
    return length > 0 && length <= HOST_TEXT_MAX && host[0] != '-' && host[0] != '.' &&
           strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._*") ==
               length;
}

static const char *bad_host(const struct tls_request *request)
{
    for (size_t i = 0; i < request->host_count; i++) {
        if (!host_is_address(request->hosts[i]) && !host_is_name(request->hosts[i]))
            return request->hosts[i];
    }
    return NULL;
}

/* Not by the text form of the extension: in it, a comma in a name would begin another name. */
static void add_alternative_names(X509 *certificate, const struct tls_request *request)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    ASSERT(names != NULL);
    bool good = add_name(names, GEN_URI, request->role);
    for (size_t i = 0; i < request->host_count; i++) {
        const char *host = request->hosts[i];
        good = add_name(names, host_is_address(host) ? GEN_IPADD : GEN_DNS, host) && good;
    }
    ASSERT(good);
    int rc = X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT);
    ASSERT(rc == 1);
    GENERAL_NAMES_free(names);
}

static void sign(X509 *certificate, EVP_PKEY *key)
{
    int length = X509_sign(certificate, key, EVP_sha256());
    ASSERT(length > 0);
}

enum status tls_authority_make(const struct tls_authority *authority, const char *name,
                               unsigned days, struct tls_error *error)
{
    ASSERT(strlen(name) <= NAME_LENGTH);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    ASSERT(key != NULL);
    X509 *certificate = certificate_begin(key, name, days);
    int rc = X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    ASSERT(rc == 1);
    add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(certificate, certificate, NID_subject_key_identifier, "hash");
    sign(certificate, key);
    enum status status = put_key(key, authority->key_file, false, error);
    if (status == STATUS_OK) {
        status = put_certificate(certificate, authority->certificate_file, false, error);
        if (status != STATUS_OK)
            (void)unlink(authority->key_file); /* ours: it did not exist before */
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    return status;
}

static enum status authority_read(const struct tls_authority *authority, X509 **certificate,
                                  EVP_PKEY **key, struct tls_error *error)
{
    *certificate = NULL;
    *key = NULL;
    ERR_clear_error();
    BIO *bio = BIO_new_file(authority->certificate_file, "r");
    if (bio != NULL)
        *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (*certificate == NULL)
        return library_error(error, authority->certificate_file);
    bio = BIO_new_file(authority->key_file, "r");
    if (bio != NULL)
        *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)(uintptr_t) "");
    BIO_free(bio);
    if (*key == NULL || X509_check_private_key(*certificate, *key) != 1)
        return library_error(error, authority->key_file);
    return STATUS_OK;
}

enum status tls_authority_copy(const struct tls_authority *authority, const char *file,
                               struct tls_error *error)
{
    struct buffer bytes = {0};
    ERR_clear_error();
    BIO *bio = BIO_new_file(authority->certificate_file, "r");
    X509 *certificate = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    if (certificate == NULL) {
        BIO_free(bio);
        return library_error(error, authority->certificate_file);
    }
    X509_free(certificate);
    int count = BIO_reset(bio); /* 0: from the start again */
    while (count >= 0) {
        count = BIO_read(bio, buffer_reserve(&bytes, COPY_BYTES), COPY_BYTES);
        if (count <= 0)
            break;
        buffer_added(&bytes, (size_t)count);
    }
    BIO_free(bio);
    enum status status = file_put(file, buffer_slice(&bytes), CERT_MODE, true, error);
    buffer_free(&bytes);
    return status;
}

static X509 *certificate_make(EVP_PKEY *key, X509 *issuer, const struct tls_request *request)
{
    bool serves = strcmp(request->role, TLS_ROLE_BROKER) == 0;
    X509 *certificate = certificate_begin(key, request->name, request->days);
    int rc = X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
    ASSERT(rc == 1);
    add_extension(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(certificate, issuer, NID_key_usage, "critical,digitalSignature");
    add_extension(certificate, issuer, NID_ext_key_usage,
                  serves ? "serverAuth,clientAuth" : "clientAuth");
    add_extension(certificate, issuer, NID_subject_key_identifier, "hash");
    add_extension(certificate, issuer, NID_authority_key_identifier, "keyid");
    add_alternative_names(certificate, request);
    return certificate;
}

enum status tls_issue(const struct tls_authority *authority, const struct tls_request *request,
                      struct tls_error *error)
{
    const char *bad = bad_host(request);
    if (bad != NULL || strlen(request->name) > NAME_LENGTH) {
        snprintf(error->text, sizeof error->text, "'%s' is neither a host name nor an address",
                 bad != NULL ? bad : request->name);
        return STATUS_INVALID;
    }
    X509 *issuer;
    EVP_PKEY *issuer_key;
    enum status status = authority_read(authority, &issuer, &issuer_key, error);
    if (status == STATUS_OK) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        ASSERT(key != NULL);
        X509 *certificate = certificate_make(key, issuer, request);
        sign(certificate, issuer_key);
        status = put_key(key, request->key_file, true, error);
        if (status == STATUS_OK)
            status = put_certificate(certificate, request->certificate_file, true, error);
        X509_free(certificate);
        EVP_PKEY_free(key);
    }
    X509_free(issuer);
    EVP_PKEY_free(issuer_key);
    return status;
}
