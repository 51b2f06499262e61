/* Says statements from a script, over a port that notifies: each notification is a line of hexadecimal on stdout.
 *
 *     statements SEED ID BOOT MTU < script        SEED is 64 hexadecimal digits
 *
 *     at 41000                                    the clock, ms since the start
 *     integer 149530 72 /min
 *     decimal 150456 -1 975 %
 *     waveform 150452 13333333 0 1 3 5 -7         code, period ns, scale, unit 1, samples
 *     flag demo-data
 *     time 1764000000123
 *     send                                        then "done", or why not, on a line of its own
 *
 * Exit: 0 the script was read; 2 wrong usage.
 */
#include <inttypes.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iomt_port.h"

enum { LINE_LIMIT = 65536, MEASUREMENT_LIMIT = 1024, SAMPLE_LIMIT = 8192, FLAG_LIMIT = 1024, WORDS_LIMIT = 65536 };

struct script {
    uint8_t secret_key[crypto_sign_SECRETKEYBYTES];
    uint16_t mtu;
    uint64_t now_ms;
    uint64_t device_time_ms;
    struct iomt_report report;
    struct iomt_measurement measurements[MEASUREMENT_LIMIT];
    int32_t samples[SAMPLE_LIMIT];
    size_t sample_count;
    const char *flags[FLAG_LIMIT];
    char words[WORDS_LIMIT]; /* units and flags of this report */
    size_t words_size;
};

int iomt_port_sign(void *port, const uint8_t *message, size_t size, uint8_t signature[IOMT_SIGNATURE_SIZE])
{
    const struct script *script = port;

    return crypto_sign_detached(signature, NULL, message, size, script->secret_key);
}

int iomt_port_hash(void *port, const uint8_t *data, size_t size, uint8_t digest[IOMT_DIGEST_SIZE])
{
    (void)port;
    return crypto_hash_sha256(digest, data, size);
}

int iomt_port_write(void *port, const uint8_t *data, size_t size)
{
    const struct script *script = port;
    size_t at = 0;
    size_t begin;
    size_t part;

    while ((part = iomt_cut(size, script->mtu, &at, &begin)) > 0) {
        for (size_t i = 0; i < part; i++) {
            printf("%02x", data[begin + i]);
        }
        putchar('\n');
    }
    return at == size ? 0 : -1;
}

uint64_t iomt_port_now_ms(void *port)
{
    const struct script *script = port;

    return script->now_ms;
}

static const char *keep(struct script *script, const char *word)
{
    char *kept = script->words + script->words_size;
    size_t size = word == NULL ? 0 : strlen(word) + 1;

    if (size == 0 || size > sizeof script->words - script->words_size) {
        return NULL;
    }
    memcpy(kept, word, size);
    script->words_size += size;
    return kept;
}

static int64_t next_number(void)
{
    const char *word = strtok(NULL, " \n");

    return word == NULL ? 0 : (int64_t)strtoll(word, NULL, 10);
}

static void read_samples(struct script *script, struct iomt_measurement *measurement)
{
    const char *word;

    measurement->samples = script->samples + script->sample_count;
    while ((word = strtok(NULL, " \n")) != NULL && script->sample_count < SAMPLE_LIMIT) {
        script->samples[script->sample_count++] = (int32_t)strtol(word, NULL, 10);
        measurement->sample_count++;
    }
}

static bool read_measurement(struct script *script, const char *kind)
{
    struct iomt_measurement *measurement = &script->measurements[script->report.measurement_count];

    if (script->report.measurement_count == MEASUREMENT_LIMIT) {
        return false;
    }
    memset(measurement, 0, sizeof *measurement);
    measurement->code = (uint32_t)next_number();
    if (strcmp(kind, "integer") == 0) {
        measurement->kind = IOMT_INTEGER;
    } else if (strcmp(kind, "decimal") == 0) {
        measurement->kind = IOMT_DECIMAL;
        measurement->exponent = (int8_t)next_number();
    } else if (strcmp(kind, "waveform") == 0) {
        measurement->kind = IOMT_WAVEFORM;
        measurement->period_ns = (uint64_t)next_number();
        measurement->exponent = (int8_t)next_number();
    } else {
        return false;
    }
    if (measurement->kind != IOMT_WAVEFORM) {
        measurement->number = next_number();
    }
    measurement->unit = keep(script, strtok(NULL, " \n"));
    if (measurement->kind == IOMT_WAVEFORM) {
        read_samples(script, measurement);
    }
    script->report.measurement_count++;
    return true;
}

static void say(struct script *script, struct iomt_sensor *sensor)
{
    script->report.measurements = script->measurements;
    script->report.flags = script->flags;
    puts(iomt_reason(iomt_send(sensor, &script->report)));
    memset(&script->report, 0, sizeof script->report);
    script->sample_count = 0;
    script->words_size = 0;
}

static bool follow(struct script *script, struct iomt_sensor *sensor, char *line)
{
    const char *word = strtok(line, " \n");

    if (word == NULL) {
        return false;
    } else if (strcmp(word, "at") == 0) {
        script->now_ms = (uint64_t)next_number();
    } else if (strcmp(word, "time") == 0) {
        script->device_time_ms = (uint64_t)next_number();
        script->report.device_time_ms = &script->device_time_ms;
    } else if (strcmp(word, "flag") == 0 && script->report.flag_count < FLAG_LIMIT) {
        script->flags[script->report.flag_count++] = keep(script, strtok(NULL, " \n"));
    } else if (strcmp(word, "send") == 0) {
        say(script, sensor);
    } else {
        return read_measurement(script, word);
    }
    return true;
}

int main(int count, char **arguments)
{
    struct script script;
    struct iomt_sensor sensor;
    uint8_t seed[crypto_sign_SEEDBYTES];
    uint8_t public_key[crypto_sign_PUBLICKEYBYTES];
    char line[LINE_LIMIT];
    size_t size;
    enum iomt_status status;

    if (count != 5 || sodium_init() < 0 ||
        sodium_hex2bin(seed, sizeof seed, arguments[1], strlen(arguments[1]), NULL, &size, NULL) != 0 ||
        size != sizeof seed) {
        fputs("usage: statements SEED ID BOOT MTU < script\n", stderr);
        return 2;
    }
    memset(&script, 0, sizeof script);
    crypto_sign_seed_keypair(public_key, script.secret_key, seed);
    script.mtu = (uint16_t)strtoul(arguments[4], NULL, 10);
    status = iomt_start(&sensor, &script, arguments[2], IOMT_ED25519, public_key, sizeof public_key,
                        strtoull(arguments[3], NULL, 10));
    if (status != IOMT_DONE) {
        puts(iomt_reason(status));
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (!follow(&script, &sensor, line)) {
            return 2;
        }
    }
    return 0;
}
