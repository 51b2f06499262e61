#include "iomt.h"

#include <stdbool.h>
#include <string.h>

#include "iomt_port.h"

/* The heads of CBOR's major types (RFC 8949 3.1). */
enum { UNSIGNED = 0x00, NEGATIVE = 0x20, BYTES = 0x40, TEXT = 0x60, ARRAY = 0x80, MAP = 0xa0, TAG = 0xc0 };

static const char CONTENT_TYPE[] = "application/iomt-statement+cbor";
static const uint64_t COUNT_LIMIT = INT64_MAX;

/* The head of a byte string that fits into a statement has at most so many bytes. */
enum { HEAD_ROOM = 3 };

/* Where the next byte goes. Once something did not fit, nothing is written any more and `is_full` stays. */
struct writer {
    uint8_t *at;
    const uint8_t *end;
    bool is_full;
};

static void put(struct writer *writer, const void *data, size_t size)
{
    if (writer->is_full || size > (size_t)(writer->end - writer->at)) {
        writer->is_full = true;
        return;
    }
    memcpy(writer->at, data, size);
    writer->at += size;
}

/* The head of an item in the fewest bytes, as deterministic encoding has it (RFC 8949 4.2.1). */
static void put_head(struct writer *writer, uint8_t major, uint64_t number)
{
    uint8_t head[9];
    unsigned following = 0;

    if (number < 24) {
        head[0] = (uint8_t)(major | number);
    } else if (number <= UINT8_MAX) {
        head[0] = (uint8_t)(major | 24);
        following = 1;
    } else if (number <= UINT16_MAX) {
        head[0] = (uint8_t)(major | 25);
        following = 2;
    } else if (number <= UINT32_MAX) {
        head[0] = (uint8_t)(major | 26);
        following = 4;
    } else {
        head[0] = (uint8_t)(major | 27);
        following = 8;
    }
    for (unsigned byte = 0; byte < following; byte++) {
        head[1 + byte] = (uint8_t)(number >> (8 * (following - 1 - byte)));
    }
    put(writer, head, 1 + following);
}

static void put_integer(struct writer *writer, int64_t number)
{
    if (number >= 0) {
        put_head(writer, UNSIGNED, (uint64_t)number);
    } else {
        put_head(writer, NEGATIVE, (uint64_t)(-1 - number));
    }
}

static void put_bytes(struct writer *writer, const uint8_t *data, size_t size)
{
    put_head(writer, BYTES, size);
    put(writer, data, size);
}

static void put_text(struct writer *writer, const char *text)
{
    size_t size = strlen(text);

    put_head(writer, TEXT, size);
    put(writer, text, size);
}

static bool is_text(const char *text)
{
    size_t size = 0;

    while (text != NULL && size <= IOMT_TEXT_LIMIT && text[size] != '\0') {
        if (text[size] < '!' || text[size] > '~') {
            return false;
        }
        size++;
    }
    return size >= 1 && size <= IOMT_TEXT_LIMIT;
}

static enum iomt_status check_measurement(const struct iomt_measurement *measurement)
{
    if (!is_text(measurement->unit)) {
        return IOMT_BAD_TEXT;
    }
    switch (measurement->kind) {
    case IOMT_INTEGER:
    case IOMT_DECIMAL:
        return IOMT_DONE;
    case IOMT_WAVEFORM:
        if (measurement->samples == NULL || measurement->sample_count == 0 || measurement->period_ns > COUNT_LIMIT) {
            return IOMT_BAD_VALUE;
        }
        return IOMT_DONE;
    }
    return IOMT_BAD_VALUE;
}

static enum iomt_status check_report(const struct iomt_report *report)
{
    if (report->measurement_count == 0 || (report->device_time_ms != NULL && *report->device_time_ms > COUNT_LIMIT)) {
        return IOMT_BAD_VALUE;
    }
    for (size_t i = 0; i < report->measurement_count; i++) {
        enum iomt_status status = check_measurement(&report->measurements[i]);
        if (status != IOMT_DONE) {
            return status;
        }
    }
    for (size_t i = 0; i < report->flag_count; i++) {
        if (!is_text(report->flags[i])) {
            return IOMT_BAD_TEXT;
        }
    }
    return IOMT_DONE;
}

static void put_measurement(struct writer *writer, const struct iomt_measurement *measurement)
{
    put_head(writer, ARRAY, 3);
    put_head(writer, UNSIGNED, measurement->code);
    switch (measurement->kind) {
    case IOMT_INTEGER:
        put_integer(writer, measurement->number);
        break;
    case IOMT_DECIMAL:
        put_head(writer, TAG, 4);
        put_head(writer, ARRAY, 2);
        put_integer(writer, measurement->exponent);
        put_integer(writer, measurement->number);
        break;
    case IOMT_WAVEFORM:
        put_head(writer, MAP, 3);
        put_integer(writer, 1);
        put_head(writer, UNSIGNED, measurement->period_ns);
        put_integer(writer, 2);
        put_integer(writer, measurement->exponent);
        put_integer(writer, 3);
        put_head(writer, ARRAY, measurement->sample_count);
        for (size_t i = 0; i < measurement->sample_count && !writer->is_full; i++) {
            put_integer(writer, measurement->samples[i]);
        }
        break;
    }
    put_text(writer, measurement->unit);
}

/* {1: 1, 2: sequence, 3: [boot, uptime], 5: [+ measurement], ? 8: device time, ? 9: [+ flag]} */
static void put_payload(struct writer *writer, const struct iomt_sensor *sensor, const struct iomt_report *report)
{
    put_head(writer, MAP, 4u + (report->device_time_ms != NULL) + (report->flag_count != 0));
    put_integer(writer, 1);
    put_integer(writer, 1);
    put_integer(writer, 2);
    put_head(writer, UNSIGNED, sensor->sequence);
    put_integer(writer, 3);
    put_head(writer, ARRAY, 2);
    put_head(writer, UNSIGNED, sensor->boot);
    put_head(writer, UNSIGNED, iomt_port_now_ms(sensor->port));
    put_integer(writer, 5);
    put_head(writer, ARRAY, report->measurement_count);
    for (size_t i = 0; i < report->measurement_count && !writer->is_full; i++) {
        put_measurement(writer, &report->measurements[i]);
    }
    if (report->device_time_ms != NULL) {
        put_integer(writer, 8);
        put_head(writer, UNSIGNED, *report->device_time_ms);
    }
    if (report->flag_count != 0) {
        put_integer(writer, 9);
        put_head(writer, ARRAY, report->flag_count);
        for (size_t i = 0; i < report->flag_count && !writer->is_full; i++) {
            put_text(writer, report->flags[i]);
        }
    }
}

/* {1: algorithm, 3: content type, 4: kid, 15: {1: id}} in a byte string */
static void put_protected(struct writer *writer, const struct iomt_sensor *sensor)
{
    uint8_t header[8 + sizeof CONTENT_TYPE + IOMT_KID_SIZE + 8 + IOMT_TEXT_LIMIT];
    struct writer inner = {header, header + sizeof header, false};

    put_head(&inner, MAP, 4);
    put_integer(&inner, 1);
    put_integer(&inner, (int64_t)sensor->algorithm);
    put_integer(&inner, 3);
    put_text(&inner, CONTENT_TYPE);
    put_integer(&inner, 4);
    put_bytes(&inner, sensor->kid, IOMT_KID_SIZE);
    put_integer(&inner, 15);
    put_head(&inner, MAP, 1);
    put_integer(&inner, 1);
    put_text(&inner, sensor->id);
    writer->is_full = writer->is_full || inner.is_full;
    put_bytes(writer, header, (size_t)(inner.at - header));
}

/* Makes a byte string of the `size` bytes that stand HEAD_ROOM behind the writer: they close up to its head. */
static void close_up(struct writer *writer, size_t size)
{
    const uint8_t *content = writer->at + HEAD_ROOM;

    put_head(writer, BYTES, size);
    memmove(writer->at, content, size);
    writer->at += size;
}

/* Makes the COSE_Sign1 behind the prefix of `signing` and gives its size, 0 where it is too long or not signed.
 *
 * What is signed (RFC 9052 4.4) and what is sent differ in their heads and in one byte between header and payload:
 *
 *     84 6a "Signature1" <header> 40 <payload>
 *               d2 84    <header> a0 <payload> 58 40 <signature>
 */
static size_t make_statement(struct iomt_sensor *sensor, const struct iomt_report *report, enum iomt_status *status)
{
    static const uint8_t SIGNED_HEAD[] = "\x84\x6aSignature1";
    const size_t tail = 2 + IOMT_SIGNATURE_SIZE;
    uint8_t *statement = sensor->signing + IOMT_PREFIX_SIZE;
    struct writer writer = {sensor->signing, sensor->signing + sizeof sensor->signing - tail, false};
    struct writer payload = writer;
    uint8_t *between;

    *status = IOMT_TOO_LONG;
    put(&writer, SIGNED_HEAD, sizeof SIGNED_HEAD - 1);
    put_protected(&writer, sensor);
    between = writer.at;
    put_head(&writer, BYTES, 0);
    if (writer.is_full || writer.end - writer.at < HEAD_ROOM) {
        return 0;
    }
    payload.at = writer.at + HEAD_ROOM;
    put_payload(&payload, sensor, report);
    if (payload.is_full) {
        return 0;
    }
    close_up(&writer, (size_t)(payload.at - writer.at) - HEAD_ROOM);
    *status = IOMT_NOT_SIGNED;
    if (iomt_port_sign(sensor->port, sensor->signing, (size_t)(writer.at - sensor->signing), writer.at + 2) != 0) {
        return 0;
    }
    statement[0] = TAG | 18;
    statement[1] = ARRAY | 4;
    *between = MAP;
    writer.at[0] = BYTES | 24;
    writer.at[1] = IOMT_SIGNATURE_SIZE;
    *status = IOMT_DONE;
    return (size_t)(writer.at - statement) + tail;
}

/* COBS (Cheshire and Baker 1999): each zero becomes the distance to the next. The frame has room for any statement. */
static size_t stuff(const uint8_t *data, size_t size, uint8_t *frame)
{
    size_t code_at = 0;
    size_t at = 1;
    uint8_t code = 1;

    for (size_t i = 0; i < size; i++) {
        if (data[i] != 0) {
            frame[at++] = data[i];
            code++;
        }
        if (data[i] == 0 || (code == 0xff && i + 1 < size)) {
            frame[code_at] = code;
            code_at = at++;
            code = 1;
        }
    }
    frame[code_at] = code;
    return at;
}

enum iomt_status iomt_start(struct iomt_sensor *sensor, void *port, const char *id, enum iomt_algorithm algorithm,
                            const uint8_t *public_key, size_t public_key_size, uint64_t boot)
{
    uint8_t digest[IOMT_DIGEST_SIZE];

    memset(sensor, 0, sizeof *sensor);
    if (!is_text(id)) {
        return IOMT_BAD_TEXT;
    }
    if ((algorithm != IOMT_ED25519 && algorithm != IOMT_ES256) || boot > COUNT_LIMIT) {
        return IOMT_BAD_VALUE;
    }
    if (iomt_port_hash(port, public_key, public_key_size, digest) != 0) {
        return IOMT_NOT_SIGNED;
    }
    sensor->port = port;
    sensor->algorithm = algorithm;
    sensor->boot = boot;
    memcpy(sensor->id, id, strlen(id));
    memcpy(sensor->kid, digest, IOMT_KID_SIZE);
    return IOMT_DONE;
}

enum iomt_status iomt_send(struct iomt_sensor *sensor, const struct iomt_report *report)
{
    enum iomt_status status = is_text(sensor->id) ? check_report(report) : IOMT_BAD_TEXT;
    size_t size;

    if (status != IOMT_DONE) {
        return status;
    }
    if (sensor->sequence == COUNT_LIMIT) {
        return IOMT_USED_UP;
    }
    sensor->sequence++;
    size = make_statement(sensor, report, &status);
    if (status != IOMT_DONE) {
        return status;
    }
    size = stuff(sensor->signing + IOMT_PREFIX_SIZE, size, sensor->frame + 1);
    sensor->frame[0] = 0;
    sensor->frame[size + 1] = 0;
    return iomt_port_write(sensor->port, sensor->frame, size + 2) == 0 ? IOMT_DONE : IOMT_NOT_WRITTEN;
}

size_t iomt_cut(size_t stream_size, uint16_t mtu, size_t *at, size_t *begin)
{
    size_t left = stream_size - *at;
    size_t most = mtu > 3 ? mtu - 3u : 0;

    *begin = *at;
    left = left < most ? left : most;
    *at += left;
    return left;
}

const char *iomt_reason(enum iomt_status status)
{
    switch (status) {
    case IOMT_DONE: return "done";
    case IOMT_BAD_TEXT: return "an id, unit or flag is not 1 to 64 printable ASCII characters without space";
    case IOMT_BAD_VALUE: return "no measurement, or a value of no known kind or size";
    case IOMT_TOO_LONG: return "the statement does not fit into a frame of 1024 bytes";
    case IOMT_NOT_SIGNED: return "the key could not be used";
    case IOMT_NOT_WRITTEN: return "the line did not take it";
    case IOMT_USED_UP: return "the sequence is used up";
    }
    return "no such status";
}
