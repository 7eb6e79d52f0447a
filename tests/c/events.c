/* A host with a single thread: it polls a descriptor, and fetches events. Also the bridge, and a reload of it. */
#include "pair.h"

#include <poll.h>

static int readable(int fd, int timeout_ms)
{
    struct pollfd p;
    p.fd = fd;
    p.events = POLLIN;
    p.revents = 0;
    return poll(&p, 1, timeout_ms) == 1;
}

/* The next event, which is to be of that kind. */
static sipws_event *event_of(sipws_server *server, uint32_t kind)
{
    sipws_event *event = NULL;
    OK(sipws_server_next_event(server, DEADLINE_MS, &event));
    if (sipws_event_kind(event) != kind) {
        sipws_bytes text = sipws_event_text(event);
        fprintf(stderr, "event %u instead of %u: %.*s\n", (unsigned)sipws_event_kind(event), (unsigned)kind,
                (int)text.len, text.data);
        exit(1);
    }
    return event;
}

static void a_host_with_one_thread_polls(void)
{
    side near_side = SIDE_INIT;
    sipws_config *config = config_of("ws");
    sipws_server *server = NULL;
    sipws_event *event = NULL;
    sipws_flow_id flow = 0, accepted;
    char url[128];
    int fd;
    OK(sipws_server_new(config, &server));
    fd = sipws_server_event_fd(server);
    CHECK(fd >= 0 && fd == sipws_server_event_fd(server) && !readable(fd, 0));
    OK(sipws_server_start(server));
    CHECK_STATUS(sipws_server_next_event(server, 0, &event), SIPWS_E_TIMEOUT);
    CHECK_STATUS(sipws_server_next_event(server, 20, &event), SIPWS_E_TIMEOUT);
    CHECK(event == NULL);

    side_start(&near_side, config_of("ws"));
    OK(sipws_connect(near_side.server, url_of(server, url, sizeof url), NULL, &flow));
    CHECK(readable(fd, DEADLINE_MS));
    CHECK(readable(fd, 0)); /* for as long as it waits */
    event = event_of(server, SIPWS_EVENT_OPENED);
    accepted = sipws_event_flow(event);
    CHECK(accepted != 0 && sipws_event_text(event).len > 10 && sipws_event_code(event) == 0);
    sipws_event_free(event);
    sipws_event_free(event); /* told, not believed */
    CHECK(!readable(fd, 0));
    CHECK(count_reaches(&near_side.opened, 1));
    OK(sipws_flow_close(near_side.server, flow, 1000, NULL));
    event = event_of(server, SIPWS_EVENT_CLOSED);
    CHECK(sipws_event_flow(event) == accepted && sipws_event_code(event) == SIPWS_CLOSED_PEER);
    CHECK(same(sipws_event_text(event), "client"));
    sipws_event_free(event);

    /* What has happened until the end can be fetched after it; then there is nothing more, and that is said, too. */
    OK(sipws_connect(near_side.server, url, NULL, &flow));
    CHECK(readable(fd, DEADLINE_MS));
    OK(sipws_server_stop(server, 0));
    CHECK(readable(fd, 0));
    sipws_event_free(event_of(server, SIPWS_EVENT_OPENED));
    sipws_event_free(event_of(server, SIPWS_EVENT_CLOSED));
    CHECK_STATUS(sipws_server_next_event(server, DEADLINE_MS, &event), SIPWS_E_STATE);
    CHECK(readable(fd, 0));
    free_server(server);
    sipws_config_free(config);
    free_server(near_side.server);
}

static void a_full_queue_keeps_the_oldest_and_tells_how_many_are_missing(void)
{
    side near_side = SIDE_INIT;
    sipws_config *config = config_of("ws");
    sipws_server *server = NULL;
    sipws_event *event = NULL;
    sipws_stats stats = SIPWS_STATS_INIT;
    sipws_flow_id flow = 0, first;
    char url[128];
    unsigned i;
    OK(sipws_config_set_event_queue(config, 3));
    OK(sipws_server_new(config, &server));
    OK(sipws_server_start(server));
    side_start(&near_side, config_of("ws"));
    url_of(server, url, sizeof url);
    for (i = 1; i <= 10; i++) {
        OK(sipws_connect(near_side.server, url, NULL, &flow));
        CHECK(count_reaches(&near_side.opened, i));
    }
    EVENTUALLY(sipws_server_stats(server, &stats) == SIPWS_OK && stats.events_lost == 7);
    event = event_of(server, SIPWS_EVENT_OPENED);
    first = sipws_event_flow(event);
    sipws_event_free(event);
    sipws_event_free(event_of(server, SIPWS_EVENT_OPENED));
    event = event_of(server, SIPWS_EVENT_OPENED);
    CHECK(sipws_event_flow(event) > first);
    sipws_event_free(event);
    event = event_of(server, SIPWS_EVENT_OVERFLOW);
    CHECK(sipws_event_number(event) == 7 && sipws_event_flow(event) == 0);
    sipws_event_free(event);
    CHECK_STATUS(sipws_server_next_event(server, 0, &event), SIPWS_E_TIMEOUT);
    free_server(near_side.server);
    free_server(server);

    OK(sipws_config_set_event_queue(config, 0));
    CHECK_STATUS(sipws_config_set_event_queue(config, 1u << 21), SIPWS_E_INVALID);
    OK(sipws_server_new(config, &server));
    CHECK_STATUS(sipws_server_next_event(server, 0, &event), SIPWS_E_STATE);
    CHECK(sipws_server_event_fd(server) == SIPWS_E_STATE);
    free_server(server);
    sipws_config_free(config);
}

typedef struct watcher {
    counter opened, closed, failed, up, down;
} watcher;

static void watch(void *user_data, sipws_server *server, const sipws_event *event)
{
    watcher *w = (watcher *)user_data;
    CHECK(server != NULL);
    switch (sipws_event_kind(event)) {
    case SIPWS_EVENT_OPENED:
        count_add(&w->opened, 1);
        break;
    case SIPWS_EVENT_CLOSED:
        count_add(&w->closed, 1);
        break;
    case SIPWS_EVENT_CONNECT_FAILED:
        CHECK(sipws_event_code(event) == SIPWS_CONNECT_TCP);
        count_add(&w->failed, 1);
        break;
    case SIPWS_EVENT_UPSTREAM_UP:
        count_add(&w->up, 1);
        break;
    case SIPWS_EVENT_UPSTREAM_DOWN:
        count_add(&w->down, 1);
        break;
    }
    /* It is lent: freeing it does nothing. */
    sipws_event_free((sipws_event *)(size_t)event);
    CHECK(sipws_event_kind(event) != 0);
}

static void events_go_to_a_callback_or_to_the_queue_not_both(void)
{
    static watcher w = {COUNTER_INIT, COUNTER_INIT, COUNTER_INIT, COUNTER_INIT, COUNTER_INIT};
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    sipws_config *config = config_of("ws");
    sipws_event *event = NULL;
    sipws_flow_id flow = 0;
    OK(sipws_config_set_events(config, watch, &w, NULL));
    side_start(&near_side, config);
    side_start(&far_side, config_of("ws"));
    CHECK_STATUS(sipws_server_next_event(near_side.server, 0, &event), SIPWS_E_STATE);
    CHECK(sipws_server_event_fd(near_side.server) == SIPWS_E_STATE);
    OK(sipws_connect(near_side.server, "ws://127.0.0.1:1/", NULL, &flow));
    CHECK(count_reaches(&w.failed, 1));
    flow = side_connect(&near_side, &far_side);
    OK(sipws_flow_close(near_side.server, flow, 1000, NULL));
    CHECK(count_reaches(&w.opened, 1) && count_reaches(&w.closed, 1));
    free_server(near_side.server);
    free_server(far_side.server);
}

static void a_bridge_takes_over_upstreams_on_reload(void)
{
    sipws_config *config = config_of("ws");
    sipws_server *server = NULL;
    sipws_str restart = {NULL, 0};
    OK(sipws_server_new(config, &server));
    CHECK_STATUS(sipws_server_reload(server, config, &restart), SIPWS_E_STATE);
    OK(sipws_server_start(server));
    CHECK_STATUS(sipws_server_ready(server), SIPWS_E_STATE); /* no upstream */
    OK(sipws_server_reload(server, config, &restart));
    CHECK(restart.len == 0);
    sipws_str_free(&restart);
    OK(sipws_config_set(config, "upstream[0].uri", "sip:127.0.0.1:1;transport=tcp"));
    OK(sipws_config_set(config, "limits.message_bytes", "4KiB"));
    OK(sipws_server_reload(server, config, &restart));
    CHECK(strcmp(restart.data, "limits.message_bytes") == 0);
    sipws_str_free(&restart);
    OK(sipws_server_reload(server, config, NULL));
    OK(sipws_config_set(config, "limits.burst", "0"));
    CHECK_STATUS(sipws_server_reload(server, config, &restart), SIPWS_E_CONFIG);
    CHECK(restart.data == NULL);
    free_server(server);
    sipws_config_free(config);
}

int main(void)
{
    RUN(a_host_with_one_thread_polls);
    RUN(a_full_queue_keeps_the_oldest_and_tells_how_many_are_missing);
    RUN(events_go_to_a_callback_or_to_the_queue_not_both);
    RUN(a_bridge_takes_over_upstreams_on_reload);
    return 0;
}
