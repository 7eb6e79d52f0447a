/* A host whose own SIP stack stands behind callbacks: messages both ways, what flows are, what may be done where. */
#include "pair.h"

static void look_at_message(side *s, sipws_flow_id flow, const sipws_message *message)
{
    sipws_bytes b, name;
    size_t i;
    (void)s, (void)flow;
    if (!same(sipws_message_method(message), "OPTIONS")) {
        return;
    }
    CHECK(sipws_message_status(message) == 0);
    CHECK(same(sipws_message_request_uri(message), "sip:echo@example.com"));
    CHECK(same(sipws_message_body(message), "body"));
    CHECK(sipws_message_bytes(message).len > 200);
    OK(sipws_message_header(message, "call-id", 0, &b));
    CHECK(same(b, "call-7"));
    /* Compact in the message, long in the question, and the other way round. */
    OK(sipws_message_header(message, "To", 0, &b));
    CHECK(same(b, "<sip:echo@example.com>"));
    OK(sipws_message_header(message, "Subject", 0, &b));
    CHECK(same(b, "a test"));
    OK(sipws_message_header(message, "v", 0, &b));
    CHECK(same(b, "SIP/2.0/WS a.invalid;branch=z9hG4bK7"));
    CHECK_STATUS(sipws_message_header(message, "Via", 1, &b), SIPWS_E_NOT_FOUND);
    CHECK_STATUS(sipws_message_header(message, NULL, 0, &b), SIPWS_E_NULL);
    CHECK_STATUS(sipws_message_header(message, "Via", 0, NULL), SIPWS_E_NULL);
    for (i = 0; sipws_message_header_at(message, i, &name, &b) == SIPWS_OK; i++) {
        CHECK(name.len > 0 && b.len > 0);
    }
    CHECK(i == 8);
    OK(sipws_message_header_at(message, 3, &name, NULL));
    CHECK(same(name, "t"));
}

static void messages_pass_both_ways_and_can_be_read(void)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    sipws_flow_info_t info = SIPWS_FLOW_INFO_INIT;
    sipws_stats stats = SIPWS_STATS_INIT;
    sipws_flow_id flow;
    unsigned i;
    far_side.echoes = 1;
    far_side.on_message = look_at_message;
    near_side.on_message = look_at_message;
    side_start(&far_side, config_of("ws"));
    side_start(&near_side, config_of("ws"));
    flow = side_connect(&near_side, &far_side);
    side_send(&near_side, flow, "OPTIONS", 7);
    CHECK(count_reaches(&near_side.messages, 1));
    for (i = 0; i < 100; i++) {
        side_send(&near_side, flow, "MESSAGE", i);
    }
    CHECK(count_reaches(&near_side.messages, 101));

    OK(sipws_flow_info(near_side.server, flow, &info));
    CHECK(info.outgoing == 1 && info.secure == 0 && info.peer_len == strlen(info.peer));
    CHECK(strncmp(info.peer, "127.0.0.1:", 10) == 0 && info.age_ms < DEADLINE_MS);
    OK(sipws_flow_info(far_side.server, count_get(&far_side.last_flow), &info));
    CHECK(info.outgoing == 0);
    OK(sipws_server_stats(far_side.server, &stats));
    CHECK(stats.messages_from_flows == 101 && stats.messages_to_flows == 101 && stats.connections_ws == 1);
    CHECK(stats.handshakes == 1 && stats.connections_outgoing == 0 && stats.ready == 1);
    OK(sipws_server_stats(near_side.server, &stats));
    CHECK(stats.connections_outgoing == 1 && stats.messages_to_flows == 101);

    OK(sipws_flow_close(near_side.server, flow, 4001, "bye"));
    CHECK(count_reaches(&near_side.closed, 1) && count_reaches(&far_side.closed, 1));
    CHECK(count_get(&near_side.last_reason) == SIPWS_CLOSED_HERE);
    CHECK(count_get(&far_side.last_reason) == SIPWS_CLOSED_PEER);
    EVENTUALLY(sipws_flow_info(near_side.server, flow, &info) == SIPWS_E_GONE);
    CHECK_STATUS(sipws_flow_send(near_side.server, flow, bytes("x")), SIPWS_E_GONE);
    CHECK_STATUS(sipws_flow_close(near_side.server, flow, 1000, NULL), SIPWS_E_GONE);
    free_server(near_side.server);
    free_server(far_side.server);
}

static void what_can_not_be_sent_is_told(void)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    sipws_flow_id flow;
    sipws_bytes empty = {NULL, 0}, huge;
    char *much = (char *)calloc(1, 16 << 20);
    side_start(&far_side, config_of("ws"));
    side_start(&near_side, config_of("ws"));
    flow = side_connect(&near_side, &far_side);
    huge.data = much;
    huge.len = 16 << 20;
    CHECK_STATUS(sipws_flow_send(near_side.server, flow, empty), SIPWS_E_INVALID);
    CHECK_STATUS(sipws_flow_send(near_side.server, flow, huge), SIPWS_E_INVALID);
    CHECK_STATUS(sipws_flow_send(near_side.server, 0, bytes("x")), SIPWS_E_GONE);
    CHECK_STATUS(sipws_flow_close(near_side.server, flow, 1005, NULL), SIPWS_E_INVALID);
    CHECK_STATUS(sipws_flow_close(near_side.server, flow, 1000, "\xff"), SIPWS_E_INVALID);
    free_server(near_side.server);
    free_server(far_side.server);
    free(much);
}

/* In callbacks: what is allowed works, and what would wait for them is refused. */
static void try_everything(side *s, sipws_flow_id flow, const sipws_message *message)
{
    sipws_stats stats = SIPWS_STATS_INIT;
    sipws_flow_info_t info = SIPWS_FLOW_INFO_INIT;
    sipws_event *event = NULL;
    sipws_str text = {NULL, 0};
    char url[128];
    (void)message;
    OK(sipws_server_stats(s->server, &stats));
    OK(sipws_server_metrics(s->server, &text));
    sipws_str_free(&text);
    OK(sipws_flow_info(s->server, flow, &info));
    url_of(s->server, url, sizeof url);
    CHECK_STATUS(sipws_server_stop(s->server, 0), SIPWS_E_WOULD_DEADLOCK);
    CHECK_STATUS(sipws_server_start(s->server), SIPWS_E_WOULD_DEADLOCK);
    CHECK_STATUS(sipws_server_next_event(s->server, 0, &event), SIPWS_E_WOULD_DEADLOCK);
    OK(sipws_flow_close(s->server, flow, 1000, "enough"));
}

static void waiting_calls_are_refused_inside_callbacks(void)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    sipws_flow_id flow;
    far_side.on_message = try_everything;
    side_start(&far_side, config_of("ws"));
    side_start(&near_side, config_of("ws"));
    flow = side_connect(&near_side, &far_side);
    side_send(&near_side, flow, "OPTIONS", 1);
    CHECK(count_reaches(&near_side.closed, 1));
    CHECK(count_reaches(&far_side.closed, 1));
    free_server(near_side.server);
    free_server(far_side.server);
}

static void free_in_callback(side *s, sipws_flow_id flow, const sipws_message *message)
{
    sipws_flow_info_t info = SIPWS_FLOW_INFO_INIT;
    (void)message;
    free_server(s->server);
    /* It is there until its callbacks have ended; and freed once. */
    OK(sipws_flow_info(s->server, flow, &info));
    free_server(s->server);
}

static void far_side_dropped(void *user_data)
{
    count_add(&((side *)user_data)->drops, 1);
}

static void a_server_can_be_freed_inside_its_own_callback(void)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    sipws_message_handler handler = SIPWS_MESSAGE_HANDLER_INIT;
    sipws_config *config = config_of("ws");
    sipws_flow_id flow;
    far_side.on_message = free_in_callback;
    handler.opened = side_opened;
    handler.message = side_message;
    handler.closed = side_closed;
    OK(sipws_config_set_message_handler(config, &handler, &far_side, far_side_dropped));
    OK(sipws_server_new(config, &far_side.server));
    OK(sipws_server_start(far_side.server));
    sipws_config_free(config);
    side_start(&near_side, config_of("ws"));
    flow = side_connect(&near_side, &far_side);
    side_send(&near_side, flow, "OPTIONS", 1);
    CHECK(count_reaches(&near_side.closed, 1));
    CHECK(count_reaches(&far_side.drops, 1));
    CHECK(count_get(&far_side.closed) == 1);
    free_server(near_side.server);
}

static void use_user_data_in_opened(side *s, sipws_flow_id flow)
{
    /* The flow is there from its first callback on. */
    OK(sipws_flow_set_user_data(s->server, flow, &s->drops, count_drop));
}

static void look_at_user_data_in_closed(side *s, sipws_flow_id flow)
{
    void *data = NULL;
    OK(sipws_flow_user_data(s->server, flow, &data));
    CHECK(data == &s->drops && count_get(&s->drops) == *(unsigned long long *)s->extra);
}

static void user_data_of_flows_is_dropped_once_after_the_last_callback(void)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    unsigned long long dropped = 1;
    sipws_flow_id flow;
    void *data = &data;
    near_side.on_opened = use_user_data_in_opened;
    near_side.on_closed = look_at_user_data_in_closed;
    near_side.extra = &dropped;
    side_start(&far_side, config_of("ws"));
    side_start(&near_side, config_of("ws"));
    flow = side_connect(&near_side, &far_side);
    OK(sipws_flow_user_data(far_side.server, count_get(&far_side.last_flow), &data));
    CHECK(data == NULL);
    OK(sipws_flow_set_user_data(near_side.server, flow, &near_side.drops, count_drop));
    CHECK(count_get(&near_side.drops) == 1); /* replaced */
    OK(sipws_flow_close(near_side.server, flow, 1000, NULL));
    CHECK(count_reaches(&near_side.closed, 1));
    CHECK(count_reaches(&near_side.drops, 2));
    dropped = 2;
    side_connect(&near_side, &far_side);
    free_server(near_side.server);
    CHECK(count_get(&near_side.closed) == 2 && count_get(&near_side.drops) == 3);
    free_server(far_side.server);
}

/* Sends until the flow is gone. */
static void *flood(void *argument)
{
    side *s = (side *)argument;
    char text[1024];
    sipws_bytes message;
    sipws_status status;
    message.data = text;
    message.len = request(text, sizeof text, "MESSAGE", 1);
    do {
        status = sipws_flow_send(s->server, count_get(&s->last_flow), message);
    } while (status == SIPWS_OK || status == SIPWS_E_AGAIN);
    CHECK(status == SIPWS_E_GONE);
    return NULL;
}

static void no_callback_runs_after_stop_has_returned(void)
{
    int round;
    for (round = 0; round < 10; round++) {
        side near_side = SIDE_INIT, far_side = SIDE_INIT;
        pthread_t threads[2];
        unsigned long long before, opened, closed;
        int i;
        far_side.echoes = 1;
        side_start(&far_side, config_of("ws"));
        side_start(&near_side, config_of("ws"));
        for (i = 0; i < 4; i++) {
            side_connect(&near_side, &far_side);
        }
        for (i = 0; i < 2; i++) {
            CHECK(pthread_create(&threads[i], NULL, flood, &near_side) == 0);
        }
        CHECK(count_reaches(&far_side.messages, 100));
        OK(sipws_server_stop(far_side.server, (uint32_t)(round % 3) * 20));
        before = count_get(&far_side.messages);
        opened = count_get(&far_side.opened);
        closed = count_get(&far_side.closed);
        CHECK(opened == 4 && closed == 4);
        for (i = 0; i < 2; i++) {
            CHECK(pthread_join(threads[i], NULL) == 0);
        }
        CHECK(count_get(&far_side.messages) == before);
        CHECK(count_reaches(&near_side.closed, 4));
        free_server(far_side.server);
        free_server(near_side.server);
    }
}

static void block_until_told(side *s, sipws_flow_id flow, const sipws_message *message)
{
    (void)flow, (void)message;
    count_add(&s->last_error, 1);
    CHECK(count_reaches((counter *)s->extra, 1));
}

static void a_stop_says_that_a_callback_does_not_return(void)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    counter release = COUNTER_INIT;
    far_side.on_message = block_until_told;
    far_side.extra = &release;
    side_start(&far_side, config_of("ws"));
    side_start(&near_side, config_of("ws"));
    side_send(&near_side, side_connect(&near_side, &far_side), "OPTIONS", 1);
    CHECK(count_reaches(&far_side.last_error, 1));
    CHECK_STATUS(sipws_server_stop(far_side.server, 0), SIPWS_E_TIMEOUT);
    count_add(&release, 1);
    OK(sipws_server_stop(far_side.server, 0));
    CHECK(count_get(&far_side.messages) == 1);
    free_server(far_side.server);
    free_server(near_side.server);
}

static void a_thousand_connections_come_and_go(void)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    sipws_stats stats = SIPWS_STATS_INIT;
    char url[128];
    int i, j;
    const int rounds = getenv("QUICK") ? 10 : 100;
    near_side.on_opened = use_user_data_in_opened;
    side_start(&far_side, config_of("ws"));
    side_start(&near_side, config_of("ws"));
    url_of(far_side.server, url, sizeof url);
    for (i = 0; i < rounds; i++) {
        sipws_flow_id flows[10];
        for (j = 0; j < 10; j++) {
            OK(sipws_connect(near_side.server, url, NULL, &flows[j]));
        }
        CHECK(count_reaches(&near_side.opened, 10 * (unsigned)(i + 1)));
        for (j = 0; j < 10; j++) {
            OK(sipws_flow_close(near_side.server, flows[j], 1000, NULL));
        }
    }
    CHECK(count_reaches(&near_side.drops, 10 * (unsigned)rounds));
    CHECK(count_reaches(&far_side.closed, 10 * (unsigned)rounds));
    OK(sipws_server_stats(far_side.server, &stats));
    CHECK(stats.connections_ws == 0 && stats.closed == 10 * (unsigned)rounds);
    OK(sipws_server_stats(near_side.server, &stats));
    CHECK(stats.connections_outgoing == 0 && stats.outbox_bytes == 0);
    free_server(near_side.server);
    free_server(far_side.server);
}

static void count_log(void *user_data, int32_t level, const char *target, const char *text)
{
    CHECK(level >= SIPWS_LOG_ERROR && level <= SIPWS_LOG_INFO);
    CHECK(target[0] && text[0] && !strchr(text, '\n'));
    if (strstr(text, "connection closed")) {
        count_add((counter *)user_data, 1);
    }
}

static void the_log_goes_to_the_servers_that_were_started_under_it(void)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    counter lines = COUNTER_INIT;
    OK(sipws_set_log_callback(count_log, &lines, NULL, SIPWS_LOG_INFO));
    side_start(&far_side, config_of("ws"));
    OK(sipws_set_log_callback(NULL, NULL, NULL, SIPWS_LOG_OFF));
    side_start(&near_side, config_of("ws"));
    OK(sipws_flow_close(near_side.server, side_connect(&near_side, &far_side), 1000, NULL));
    CHECK(count_reaches(&lines, 1));
    CHECK(count_reaches(&near_side.closed, 1));
    free_server(near_side.server);
    free_server(far_side.server);
    CHECK(count_get(&lines) == 1); /* the other server's end was not told */
}

int main(void)
{
    RUN(messages_pass_both_ways_and_can_be_read);
    RUN(what_can_not_be_sent_is_told);
    RUN(waiting_calls_are_refused_inside_callbacks);
    RUN(a_server_can_be_freed_inside_its_own_callback);
    RUN(user_data_of_flows_is_dropped_once_after_the_last_callback);
    RUN(no_callback_runs_after_stop_has_returned);
    RUN(a_stop_says_that_a_callback_does_not_return);
    RUN(a_thousand_connections_come_and_go);
    RUN(the_log_goes_to_the_servers_that_were_started_under_it);
    return 0;
}
