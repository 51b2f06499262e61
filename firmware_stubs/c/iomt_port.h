/* What a sensor needs of its machine: four functions, which a port defines. `port` is what iomt_start was given.
 *
 * Those that return int return 0 when it is done and anything else when it is not.
 */
#ifndef IOMT_PORT_H
#define IOMT_PORT_H

#include <stddef.h>
#include <stdint.h>

#include "iomt.h"

/* Signs a message with the sensor's key: Ed25519 of RFC 8032 5.1 (not over BLAKE2b), or ECDSA on P-256 with SHA-256,
 * its r and s in 32 bytes each, high byte first. */
int iomt_port_sign(void *port, const uint8_t *message, size_t size, uint8_t signature[IOMT_SIGNATURE_SIZE]);

/* SHA-256, once in a start. */
int iomt_port_hash(void *port, const uint8_t *data, size_t size, uint8_t digest[IOMT_DIGEST_SIZE]);

/* Writes all of it to the line, or notifies it in pieces cut by iomt_cut. */
int iomt_port_write(void *port, const uint8_t *data, size_t size);

/* Milliseconds since this start, never going back. */
uint64_t iomt_port_now_ms(void *port);

#endif
