/* A sensor that signs itself: statements in the format iomt-frame/1 (README.md), without malloc and without globals.
 *
 *     struct iomt_sensor sensor;                              one for each key, 2.2 KB, anywhere but on a small stack
 *     iomt_start(&sensor, &port, "oximeter-7", IOMT_ED25519, public_key, 32, boot);
 *     iomt_send(&sensor, &report);                            one statement for each report
 *
 * The four functions of iomt_port.h are all that it needs of the machine. It is not for two threads at once.
 */
#ifndef IOMT_H
#define IOMT_H

#include <stddef.h>
#include <stdint.h>

/* The characteristic notifies the same bytes that stand on the line, cut by iomt_cut. */
#define IOMT_SERVICE_UUID "8ca10001-f81e-4eb5-ba55-3256ab0bf1b5"
#define IOMT_STREAM_UUID "8ca10002-f81e-4eb5-ba55-3256ab0bf1b5"

enum {
    IOMT_FRAME_LIMIT = 1024,     /* bytes of COBS, without the 00 before and after */
    IOMT_STATEMENT_LIMIT = 1019, /* what fits into it: one byte of every 255 is COBS's own */
    IOMT_TEXT_LIMIT = 64,        /* characters of an id, a unit or a flag: printable ASCII, no space */
    IOMT_KID_SIZE = 8,
    IOMT_DIGEST_SIZE = 32,
    IOMT_SIGNATURE_SIZE = 64,
    IOMT_PREFIX_SIZE = 10 /* by which what is signed is longer than what is sent */
};

/* The COSE algorithm of the port's key. */
enum iomt_algorithm { IOMT_ED25519 = -8, IOMT_ES256 = -7 };

enum iomt_status {
    IOMT_DONE = 0,
    IOMT_BAD_TEXT,     /* an id, unit or flag is empty, too long or not printable ASCII */
    IOMT_BAD_VALUE,    /* no measurement, an empty waveform, a number over 2^63 - 1, no such kind or algorithm */
    IOMT_TOO_LONG,     /* the statement does not fit into a frame; nothing was sent */
    IOMT_NOT_SIGNED,   /* the port could not hash or sign; nothing was sent */
    IOMT_NOT_WRITTEN,  /* the port could not write; how much it sent is unknown */
    IOMT_USED_UP       /* the sequence is at its end: start again with the next boot number */
};

enum iomt_kind { IOMT_INTEGER, IOMT_DECIMAL, IOMT_WAVEFORM };

/* One value: number, number * 10^exponent, or samples[i] * 10^exponent at i * period_ns after the first. */
struct iomt_measurement {
    uint32_t code; /* IEEE 11073-10101, 149530 is the pulse rate */
    enum iomt_kind kind;
    int8_t exponent;
    int64_t number;
    const int32_t *samples;
    size_t sample_count;
    uint64_t period_ns;
    const char *unit; /* UCUM, "/min" */
};

struct iomt_report {
    const struct iomt_measurement *measurements;
    size_t measurement_count;
    const char *const *flags;
    size_t flag_count;
    const uint64_t *device_time_ms; /* since 1970 in UTC; NULL where no clock was set */
};

/* The whole state; `port` is handed to the port's functions. A caller reads it and never writes it. */
struct iomt_sensor {
    void *port;
    enum iomt_algorithm algorithm;
    char id[IOMT_TEXT_LIMIT + 1];
    uint8_t kid[IOMT_KID_SIZE];
    uint64_t boot;
    uint64_t sequence;                                        /* of the last statement, 0 before the first */
    uint8_t signing[IOMT_PREFIX_SIZE + IOMT_STATEMENT_LIMIT]; /* what is signed; what is sent begins behind a prefix */
    uint8_t frame[1 + IOMT_FRAME_LIMIT + 1];                  /* with the 00 before and after */
};

/* Starts a boot. `public_key` is the raw key as the gateway has it: 32 bytes, or a SEC 1 point of 33 or 65 with ES256.
 * `boot` must be higher than in any start before and is to be kept (written, synced) before this call. */
enum iomt_status iomt_start(struct iomt_sensor *sensor, void *port, const char *id, enum iomt_algorithm algorithm,
                            const uint8_t *public_key, size_t public_key_size, uint64_t boot);

/* Signs and writes one statement. Its sequence number is used up whatever comes of it. */
enum iomt_status iomt_send(struct iomt_sensor *sensor, const struct iomt_report *report);

/* Gives the next notification of a stream: its size, at most mtu - 3 (Bluetooth Core 5.4, 3.F.3.4.7.1), and 0 at the
 * end; `*at` is where it begins and then where the next will. Start with 0. */
size_t iomt_cut(size_t stream_size, uint16_t mtu, size_t *at, size_t *begin);

/* Names a status in words fit for a person. */
const char *iomt_reason(enum iomt_status status);

#endif
