/* A simulated pulse oximeter that signs what it says:
 *
 *     sensor --id oximeter-7 --key oximeter.key --port /dev/pts/4 --count 10 --period-ms 1000
 *
 * Exit: 0 all was said; 1 the key or a value is refused; 2 wrong usage; 3 the line is not there.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host.h"
#include "iomt.h"

enum { DONE = 0, REFUSED = 1, WRONG_USAGE = 2, UNAVAILABLE = 3 };

/* IEEE 11073-10101 MDC_PULS_OXIM_PULS_RATE and MDC_PULS_OXIM_SAT_O2. */
enum { PULSE_RATE = 149530, SPO2 = 150456 };

static const char USAGE[] =
    "usage: sensor --id ID --key FILE --port PATH [--count N] [--period-ms N]\n"
    "       sensor --key FILE --public-key\n"
    "\n"
    "  --id ID         the sensor's name, as it signs it\n"
    "  --key FILE      its seed of 32 bytes; made where there is none, with a count of boots in FILE.boot\n"
    "  --port PATH     a terminal, or - for stdout\n"
    "  --count N       end after so many statements (0: never)\n"
    "  --period-ms N   time between two (1000)\n"
    "  --public-key    print the public key in hexadecimal, and end\n";

struct options {
    const char *id;
    const char *key;
    const char *port;
    unsigned long count;
    unsigned long period_ms;
    bool shows_public_key;
};

static bool read_number(const char *text, unsigned long *number)
{
    char *end;

    errno = 0;
    *number = strtoul(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

static bool read_options(struct options *options, int count, char **arguments)
{
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i];
        const char *value = i + 1 < count ? arguments[i + 1] : NULL;

        if (strcmp(name, "--public-key") == 0) {
            options->shows_public_key = true;
            continue;
        }
        i++;
        if (value == NULL) {
            return false;
        } else if (strcmp(name, "--id") == 0) {
            options->id = value;
        } else if (strcmp(name, "--key") == 0) {
            options->key = value;
        } else if (strcmp(name, "--port") == 0) {
            options->port = value;
        } else if (strcmp(name, "--count") == 0 && read_number(value, &options->count)) {
            continue;
        } else if (strcmp(name, "--period-ms") == 0 && read_number(value, &options->period_ms)) {
            continue;
        } else {
            return false;
        }
    }
    return options->key != NULL && (options->shows_public_key || (options->id != NULL && options->port != NULL));
}

static void wait_until(uint64_t due_ms)
{
    struct timespec due;

    due.tv_sec = (time_t)(due_ms / 1000);
    due.tv_nsec = (long)(due_ms % 1000) * 1000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR) {
    }
}

/* Values made up: a pulse of 66 to 78 that rises and falls, a saturation of 96.5 to 98.4 %. */
static enum iomt_status say(struct iomt_sensor *sensor, uint64_t number)
{
    static const char *const FLAGS[] = {"demo-data"};
    const uint64_t phase = number % 24;
    const uint64_t real_ms = host_real_ms();
    struct iomt_measurement measurements[2] = {
        {.code = PULSE_RATE, .kind = IOMT_INTEGER, .unit = "/min"},
        {.code = SPO2, .kind = IOMT_DECIMAL, .exponent = -1, .unit = "%"},
    };
    const struct iomt_report report = {.measurements = measurements,
                                       .measurement_count = 2,
                                       .flags = FLAGS,
                                       .flag_count = 1,
                                       .device_time_ms = &real_ms};

    measurements[0].number = 66 + (int64_t)(phase < 12 ? phase : 24 - phase);
    measurements[1].number = 965 + (int64_t)(number * 7 % 20);
    return iomt_send(sensor, &report);
}

static int run(const struct options *options, struct host *host)
{
    struct iomt_sensor sensor;
    uint64_t boot;
    enum iomt_status status;

    if (!host_open_line(host, options->port)) {
        return UNAVAILABLE;
    }
    if (!host_count_boot(host, options->key, &boot)) {
        return REFUSED;
    }
    status = iomt_start(&sensor, host, options->id, IOMT_ED25519, host->public_key, sizeof host->public_key, boot);
    for (uint64_t number = 0; status == IOMT_DONE && (options->count == 0 || number < options->count); number++) {
        wait_until(host->started_ms + number * options->period_ms);
        status = say(&sensor, number);
    }
    if (status != IOMT_DONE) {
        fprintf(stderr, "sensor: %s\n", iomt_reason(status));
    }
    return status == IOMT_DONE ? DONE : status == IOMT_NOT_WRITTEN ? UNAVAILABLE : REFUSED;
}

int main(int count, char **arguments)
{
    struct options options = {.period_ms = 1000};
    struct host host = {.line = -1, .key_file = -1};

    if (!read_options(&options, count, arguments)) {
        fputs(USAGE, stderr);
        return WRONG_USAGE;
    }
    if (!host_open_key(&host, options.key)) {
        return REFUSED;
    }
    if (!options.shows_public_key) {
        return run(&options, &host);
    }
    for (size_t i = 0; i < sizeof host.public_key; i++) {
        printf("%02x", host.public_key[i]);
    }
    putchar('\n');
    return fflush(stdout) == 0 ? DONE : UNAVAILABLE;
}
