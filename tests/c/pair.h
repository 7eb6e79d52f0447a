/* Two servers in one process: one that listens, and echoes every message; one that connects to it. */
#ifndef PAIR_H
#define PAIR_H

#include "check.h"

typedef struct side {
    sipws_server *server;
    counter opened, messages, closed, failed, drops;
    counter last_flow, last_reason, last_error, last_http;
    /* What else a test wants done, in the callback; any may be NULL. */
    void (*on_opened)(struct side *, sipws_flow_id);
    void (*on_message)(struct side *, sipws_flow_id, const sipws_message *);
    void (*on_closed)(struct side *, sipws_flow_id);
    void *extra;
    int echoes;
} side;

static const side SIDE_INIT = {NULL,         COUNTER_INIT, COUNTER_INIT, COUNTER_INIT, COUNTER_INIT,
                               COUNTER_INIT, COUNTER_INIT, COUNTER_INIT, COUNTER_INIT, COUNTER_INIT,
                               NULL,         NULL,         NULL,         NULL,         0};

static inline void side_opened(void *user_data, sipws_server *server, sipws_flow_id flow)
{
    side *s = (side *)user_data;
    CHECK(server == s->server && flow != 0);
    count_set(&s->last_flow, flow);
    if (s->on_opened) {
        s->on_opened(s, flow);
    }
    count_add(&s->opened, 1);
}

static inline void side_message(void *user_data, sipws_server *server, sipws_flow_id flow, const sipws_message *message)
{
    side *s = (side *)user_data;
    CHECK(server == s->server);
    if (s->echoes) {
        sipws_flow_send(server, flow, sipws_message_bytes(message));
    }
    if (s->on_message) {
        s->on_message(s, flow, message);
    }
    count_add(&s->messages, 1);
}

static inline void side_closed(void *user_data, sipws_server *server, sipws_flow_id flow, uint32_t reason)
{
    side *s = (side *)user_data;
    CHECK(server == s->server);
    count_set(&s->last_reason, reason);
    if (s->on_closed) {
        s->on_closed(s, flow);
    }
    count_add(&s->closed, 1);
}

static inline void side_failed(void *user_data, sipws_server *server, sipws_flow_id flow, uint32_t error,
                               uint32_t http_status, const char *text)
{
    side *s = (side *)user_data;
    CHECK(server == s->server && flow != 0 && text[0] != 0);
    count_set(&s->last_error, error);
    count_set(&s->last_http, http_status);
    count_add(&s->failed, 1);
}

/* Makes the server, and lets go of the configuration; does not start it. */
static inline void side_make(side *s, sipws_config *config)
{
    sipws_message_handler handler = SIPWS_MESSAGE_HANDLER_INIT;
    handler.opened = side_opened;
    handler.message = side_message;
    handler.closed = side_closed;
    handler.connect_failed = side_failed;
    OK(sipws_config_set_message_handler(config, &handler, s, NULL));
    OK(sipws_server_new(config, &s->server));
    sipws_config_free(config);
}

static inline void side_start(side *s, sipws_config *config)
{
    side_make(s, config);
    OK(sipws_server_start(s->server));
}

/* Connects `near` to `far`, and waits until both know of it. */
static inline sipws_flow_id side_connect(side *near_side, side *far_side)
{
    char url[128];
    sipws_flow_id flow = 0;
    unsigned long long near_count = count_get(&near_side->opened), far_count = count_get(&far_side->opened);
    OK(sipws_connect(near_side->server, url_of(far_side->server, url, sizeof url), NULL, &flow));
    CHECK(flow != 0);
    CHECK(count_reaches(&near_side->opened, near_count + 1));
    CHECK(count_reaches(&far_side->opened, far_count + 1));
    return flow;
}

static inline void side_send(side *s, sipws_flow_id flow, const char *method, unsigned number)
{
    char text[1024];
    sipws_bytes message;
    message.data = text;
    message.len = request(text, sizeof text, method, number);
    OK(sipws_flow_send(s->server, flow, message));
}

#endif
