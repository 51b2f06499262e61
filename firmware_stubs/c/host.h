/* The port to a host with libsodium: a key in a file, a terminal or stdout as the line, the kernel's clock. */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>
#include <stdint.h>

enum { HOST_SEED_SIZE = 32, HOST_PUBLIC_KEY_SIZE = 32, HOST_SECRET_KEY_SIZE = 64, HOST_PATH_LIMIT = 4000 };

struct host {
    int line;
    int key_file; /* held open, and locked by a sensor that runs */
    uint64_t started_ms;
    uint8_t public_key[HOST_PUBLIC_KEY_SIZE];
    uint8_t secret_key[HOST_SECRET_KEY_SIZE];
};

/* Each says on stderr what is wrong, and returns false. */

/* Reads the seed of 32 bytes in a file that only its owner can read; makes it where there is none, and beside it a
 * count of boots, FILE.boot, that says 0. */
bool host_open_key(struct host *host, const char *path);

/* Takes the next boot number from FILE.boot, where it is on the disk before this returns. One sensor at a time has a
 * key; without its count a key is not used any more, as numbers would come again. */
bool host_count_boot(struct host *host, const char *path, uint64_t *boot);

/* Opens the line: a terminal, set to 115200 8N1, or stdout for "-". */
bool host_open_line(struct host *host, const char *path);

/* Milliseconds of a clock that only goes forward, and since 1970. */
uint64_t host_monotonic_ms(void);
uint64_t host_real_ms(void);

#endif
