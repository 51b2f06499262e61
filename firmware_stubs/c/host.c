#define _DEFAULT_SOURCE /* cfmakeraw, CRTSCTS */

#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "iomt_port.h"

enum { COUNT_DIGITS = 20 }; /* of 2^64; a count that is read has 18 at most */

static bool complain(const char *path, const char *what)
{
    fprintf(stderr, "sensor: %s: %s\n", path, what);
    return false;
}

static bool complain_errno(const char *path)
{
    return complain(path, strerror(errno));
}

/* -- the port */

int iomt_port_sign(void *port, const uint8_t *message, size_t size, uint8_t signature[IOMT_SIGNATURE_SIZE])
{
    const struct host *host = port;

    return crypto_sign_detached(signature, NULL, message, size, host->secret_key);
}

int iomt_port_hash(void *port, const uint8_t *data, size_t size, uint8_t digest[IOMT_DIGEST_SIZE])
{
    (void)port;
    return crypto_hash_sha256(digest, data, size);
}

int iomt_port_write(void *port, const uint8_t *data, size_t size)
{
    const struct host *host = port;

    while (size > 0) {
        ssize_t written = write(host->line, data, size);
        if (written < 0 && errno != EINTR) {
            return -1;
        }
        if (written > 0) {
            data += written;
            size -= (size_t)written;
        }
    }
    return 0;
}

uint64_t iomt_port_now_ms(void *port)
{
    const struct host *host = port;

    return host_monotonic_ms() - host->started_ms;
}

/* -- clocks and line */

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t host_monotonic_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

uint64_t host_real_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

bool host_open_line(struct host *host, const char *path)
{
    struct termios settings;

    if (strcmp(path, "-") == 0) {
        host->line = STDOUT_FILENO;
        return true;
    }
    host->line = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (host->line < 0 || tcgetattr(host->line, &settings) != 0) {
        return complain_errno(path);
    }
    cfmakeraw(&settings);
    settings.c_cflag |= CLOCAL | CREAD;
    settings.c_cflag &= ~(tcflag_t)(CSTOPB | CRTSCTS);
    if (cfsetspeed(&settings, B115200) != 0 || tcsetattr(host->line, TCSANOW, &settings) != 0) {
        return complain_errno(path);
    }
    return true;
}

/* -- key and count of boots */

static bool sync_folder_of(const char *path)
{
    char folder[HOST_PATH_LIMIT + 1];
    const char *slash = strrchr(path, '/');
    int opened;
    bool is_done;

    snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1, slash == NULL ? "." : path);
    opened = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    is_done = opened >= 0 && fsync(opened) == 0;
    if (opened >= 0) {
        close(opened);
    }
    return is_done;
}

/* Puts a file there whole or not at all, and onto the disk before this returns. */
static bool put_file(const char *path, const void *data, size_t size)
{
    char fresh[HOST_PATH_LIMIT + 10];
    int opened;
    bool is_done;

    snprintf(fresh, sizeof fresh, "%s.new", path);
    opened = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (opened < 0) {
        return complain_errno(fresh);
    }
    is_done = write(opened, data, size) == (ssize_t)size && fsync(opened) == 0;
    is_done = close(opened) == 0 && is_done;
    if (!is_done || rename(fresh, path) != 0 || !sync_folder_of(path)) {
        return complain_errno(path);
    }
    return true;
}

static bool put_count(const char *path, uint64_t boot)
{
    char name[HOST_PATH_LIMIT + 10];
    char text[COUNT_DIGITS + 2];
    int size;

    snprintf(name, sizeof name, "%s.boot", path);
    size = snprintf(text, sizeof text, "%" PRIu64 "\n", boot);
    return put_file(name, text, (size_t)size);
}

static bool make_key(const char *path)
{
    uint8_t seed[HOST_SEED_SIZE];
    bool is_done;

    randombytes_buf(seed, sizeof seed);
    is_done = put_count(path, 0) && put_file(path, seed, sizeof seed); /* never a key without its count */
    sodium_memzero(seed, sizeof seed);
    return is_done;
}

bool host_open_key(struct host *host, const char *path)
{
    uint8_t seed[HOST_SEED_SIZE + 1];
    struct stat found;
    bool is_whole;

    if (strlen(path) > HOST_PATH_LIMIT || sodium_init() < 0) {
        return complain(path, "the path is too long, or libsodium does not start");
    }
    if (access(path, F_OK) != 0 && (errno != ENOENT || !make_key(path))) {
        return complain(path, "no key there, and none could be made");
    }
    host->key_file = open(path, O_RDWR | O_CLOEXEC);
    if (host->key_file < 0 || fstat(host->key_file, &found) != 0) {
        return complain_errno(path);
    }
    if ((found.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return complain(path, "others may read this key: chmod 600");
    }
    is_whole = read(host->key_file, seed, sizeof seed) == HOST_SEED_SIZE;
    crypto_sign_seed_keypair(host->public_key, host->secret_key, seed);
    sodium_memzero(seed, sizeof seed);
    return is_whole || complain(path, "a key is 32 bytes");
}

bool host_count_boot(struct host *host, const char *path, uint64_t *boot)
{
    char name[HOST_PATH_LIMIT + 10];
    char digits[COUNT_DIGITS + 1];
    char rest;
    FILE *count;
    bool is_number;

    if (lockf(host->key_file, F_TLOCK, 0) != 0) {
        return complain(path, "another sensor runs with this key");
    }
    snprintf(name, sizeof name, "%s.boot", path);
    count = fopen(name, "r");
    is_number = count != NULL && fscanf(count, "%18[0-9]%c", digits, &rest) == 2 && rest == '\n';
    if (count != NULL) {
        fclose(count);
    }
    if (!is_number) {
        return complain(name, "the count of this key's boots is lost: remove the key, and register a new one");
    }
    *boot = strtoull(digits, NULL, 10) + 1;
    host->started_ms = host_monotonic_ms();
    return put_count(path, *boot);
}
