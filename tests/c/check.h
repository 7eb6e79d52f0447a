/* What the tests in C and C++ share: checks that say where, waiting for a condition with a deadline, and messages. */
#ifndef CHECK_H
#define CHECK_H

#include <sipws.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How long anything may take; what runs under valgrind takes its time. */
#define DEADLINE_MS 60000

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define CHECK_STATUS(call, expected) check_status((call), (expected), #call, __FILE__, __LINE__)
#define OK(call) CHECK_STATUS(call, SIPWS_OK)

/* Runs a test and says which, so that a hanging one is known. */
#define RUN(test)                                                                                                      \
    do {                                                                                                               \
        fprintf(stderr, "-- %s\n", #test);                                                                             \
        test();                                                                                                        \
    } while (0)

static inline void check_status(sipws_status is, sipws_status expected, const char *call, const char *file, int line)
{
    if (is != expected) {
        char why[1024];
        sipws_last_error(why, sizeof why);
        fprintf(stderr, "%s:%d: %s: %s (%d) instead of %s (%d): %s\n", file, line, call, sipws_status_str(is), (int)is,
                sipws_status_str(expected), (int)expected, why);
        exit(1);
    }
}

static inline long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static inline void nap_ms(long ms)
{
    struct timespec t = {0, 0};
    t.tv_sec = ms / 1000;
    t.tv_nsec = ms % 1000 * 1000000;
    nanosleep(&t, NULL);
}

/*
 * The thread sanitizer does not see the library's own locks: what a callback wrote, and what is done after
 * sipws_server_free() has returned, looks like a race to it. That the one comes before the other is what the library
 * promises; said here, so that whatever breaks the promise is found.
 */
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
static int handed_over;
#define HAND_OVER() __tsan_release(&handed_over)
#define TAKE_OVER() __tsan_acquire(&handed_over)
#else
#define HAND_OVER() ((void)0)
#define TAKE_OVER() ((void)0)
#endif

static inline void free_server(sipws_server *server)
{
    sipws_server_free(server);
    TAKE_OVER();
}

/* A number that several threads count in, and wait for. */
typedef struct counter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned long long value;
} counter;

#define COUNTER_INIT {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}

static inline void count_set(counter *c, unsigned long long value)
{
    pthread_mutex_lock(&c->lock);
    c->value = value;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    HAND_OVER();
}

static inline void count_add(counter *c, unsigned long long more)
{
    pthread_mutex_lock(&c->lock);
    c->value += more;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    HAND_OVER();
}

static inline unsigned long long count_get(counter *c)
{
    unsigned long long value;
    pthread_mutex_lock(&c->lock);
    value = c->value;
    pthread_mutex_unlock(&c->lock);
    return value;
}

/* Waits until it is at least that; 0: it did not come to that. */
static inline int count_reaches(counter *c, unsigned long long value)
{
    struct timespec until;
    int reached;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += DEADLINE_MS / 1000;
    pthread_mutex_lock(&c->lock);
    while (c->value < value && pthread_cond_timedwait(&c->changed, &c->lock, &until) == 0) {
    }
    reached = c->value >= value;
    pthread_mutex_unlock(&c->lock);
    return reached;
}

/* Waits for a condition that nobody signals. */
#define EVENTUALLY(condition)                                                                                          \
    do {                                                                                                               \
        long long until_ = now_ms() + DEADLINE_MS;                                                                     \
        while (!(condition)) {                                                                                         \
            if (now_ms() > until_) {                                                                                   \
                fprintf(stderr, "%s:%d: never: %s\n", __FILE__, __LINE__, #condition);                                 \
                exit(1);                                                                                               \
            }                                                                                                          \
            nap_ms(2);                                                                                                 \
        }                                                                                                              \
    } while (0)

/* For a drop function: counts in the counter that is its user data. */
static inline void count_drop(void *user_data)
{
    count_add((counter *)user_data, 1);
}

static inline sipws_bytes bytes(const char *text)
{
    sipws_bytes b;
    b.data = text;
    b.len = strlen(text);
    return b;
}

static inline int same(sipws_bytes b, const char *text)
{
    return b.len == strlen(text) && (b.len == 0 || memcmp(b.data, text, b.len) == 0);
}

/* A request that passes the guard; `number` tells it from others. */
static inline size_t request(char *buf, size_t len, const char *method, unsigned number)
{
    int n = snprintf(buf, len,
                     "%s sip:echo@example.com SIP/2.0\r\n"
                     "Via: SIP/2.0/WS a.invalid;branch=z9hG4bK%u\r\n"
                     "Max-Forwards: 70\r\n"
                     "From: <sip:alice@example.com>;tag=%u\r\n"
                     "t: <sip:echo@example.com>\r\n"
                     "Call-ID: call-%u\r\n"
                     "CSeq: 1 %s\r\n"
                     "s: a test\r\n"
                     "Content-Length: 4\r\n"
                     "\r\n"
                     "body",
                     method, number, number, number, method);
    return n > 0 && (size_t)n < len ? (size_t)n : 0;
}

/* A configuration with one listener on a free port, and limits that a test does not run into. */
static inline sipws_config *config_of(const char *scheme)
{
    sipws_config *config = NULL;
    char url[64];
    snprintf(url, sizeof url, "%s://127.0.0.1:0/sip", scheme);
    OK(sipws_config_new(&config));
    OK(sipws_config_set(config, "listen[0].url", url));
    OK(sipws_config_set(config, "sip.listen", "[\"tcp://127.0.0.1:0\"]"));
    OK(sipws_config_set(config, "limits.requests_per_second", "1000000"));
    OK(sipws_config_set(config, "limits.connections_per_address", "10000"));
    OK(sipws_config_set(config, "runtime.threads", "2"));
    OK(sipws_config_set(config, "client.verify", "false"));
    return config;
}

/* The first URL of a server that runs. */
static inline const char *url_of(const sipws_server *server, char *buf, size_t len)
{
    OK(sipws_server_local_addr(server, 0, buf, len, NULL));
    return buf;
}

#endif
