#include "pending.h"

#include <pthread.h>

#define PENDING 4096

static struct {
    uint64_t number;
    sipws_flow_id from, to;
} pending[PENDING];
static uint64_t last;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

uint64_t pending_add(sipws_flow_id from, sipws_flow_id to)
{
    pthread_mutex_lock(&lock);
    uint64_t number = ++last;
    pending[number % PENDING].number = number;
    pending[number % PENDING].from = from;
    pending[number % PENDING].to = to;
    pthread_mutex_unlock(&lock);
    return number;
}

sipws_flow_id pending_answered(uint64_t number, sipws_flow_id by, int final)
{
    sipws_flow_id from = 0;
    pthread_mutex_lock(&lock);
    /* The number came back from a client, which may say any: it has to be the one who was asked. */
    if (number != 0 && pending[number % PENDING].number == number && pending[number % PENDING].to == by) {
        from = pending[number % PENDING].from;
        if (final)
            pending[number % PENDING].number = 0;
    }
    pthread_mutex_unlock(&lock);
    return from;
}
