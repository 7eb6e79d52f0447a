#include "locations.h"

#include "text.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#define LOCATIONS 1024
#define AOR_MAX 128

struct location {
    sipws_flow_id flow; /* 0: free */
    time_t until;
    size_t len;
    char aor[AOR_MAX];
};

static struct location locations[LOCATIONS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static time_t now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec;
}

/* The location of `aor`; or NULL, and `room` is one that is free, if there is one. */
static struct location *find(sipws_bytes aor, struct location **room)
{
    time_t at = now();
    *room = NULL;
    for (struct location *l = locations; l < locations + LOCATIONS; l++) {
        if (l->flow != 0 && l->until <= at)
            l->flow = 0;
        if (l->flow == 0)
            *room = l;
        else if (bytes_equal_nocase((sipws_bytes){ l->aor, l->len }, aor))
            return l;
    }
    return NULL;
}

bool locations_put(sipws_bytes aor, sipws_flow_id flow, long expires)
{
    if (aor.len == 0 || aor.len > AOR_MAX)
        return false;
    pthread_mutex_lock(&lock);
    struct location *room, *l = find(aor, &room);
    if (l == NULL)
        l = room;
    if (l != NULL) {
        l->flow = flow;
        l->until = now() + expires;
        l->len = aor.len;
        memcpy(l->aor, aor.data, aor.len);
    }
    pthread_mutex_unlock(&lock);
    return l != NULL;
}

void locations_remove(sipws_bytes aor, sipws_flow_id flow)
{
    pthread_mutex_lock(&lock);
    struct location *room, *l = find(aor, &room);
    if (l != NULL && l->flow == flow)
        l->flow = 0;
    pthread_mutex_unlock(&lock);
}

void locations_forget(sipws_flow_id flow)
{
    pthread_mutex_lock(&lock);
    for (struct location *l = locations; l < locations + LOCATIONS; l++)
        if (l->flow == flow)
            l->flow = 0;
    pthread_mutex_unlock(&lock);
}

sipws_flow_id locations_find(sipws_bytes aor)
{
    pthread_mutex_lock(&lock);
    struct location *room, *l = find(aor, &room);
    sipws_flow_id flow = l != NULL ? l->flow : 0;
    pthread_mutex_unlock(&lock);
    return flow;
}
