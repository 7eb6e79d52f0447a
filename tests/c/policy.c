/* A host that decides who may connect and what may pass: at once, later, too late, or never. */
#include "pair.h"

/* What the policy is to do; changed between tests. */
typedef struct doorman {
    counter handshake, request; /* the verdicts */
    counter completes_inside;
    counter asked, deferrals;
    counter deferred; /* the last decision that was */
} doorman;

static int32_t decide(void *user_data, const sipws_policy_request *what, sipws_decision *decision)
{
    doorman *d = (doorman *)user_data;
    sipws_bytes b = {NULL, 0};
    int32_t verdict;
    CHECK(sipws_policy_request_secure(what) == 0);
    CHECK(sipws_policy_request_peer(what).len > 10);
    if (sipws_policy_request_kind(what) == SIPWS_POLICY_HANDSHAKE) {
        CHECK(sipws_policy_request_flow(what) == 0 && sipws_policy_request_message(what) == NULL);
        CHECK(same(sipws_policy_request_target(what), "/sip?token=hush"));
        OK(sipws_policy_request_header(what, "x-who", 0, &b));
        CHECK(same(b, "alice"));
        CHECK_STATUS(sipws_policy_request_header(what, "X-Who", 1, &b), SIPWS_E_NOT_FOUND);
        verdict = (int32_t)count_get(&d->handshake);
    } else {
        CHECK(sipws_policy_request_kind(what) == SIPWS_POLICY_REQUEST);
        CHECK(sipws_policy_request_flow(what) != 0 && sipws_policy_request_target(what).len == 0);
        CHECK(same(sipws_message_method(sipws_policy_request_message(what)), "OPTIONS"));
        OK(sipws_policy_request_header(what, "Subject", 0, &b));
        CHECK(same(b, "a test"));
        verdict = (int32_t)count_get(&d->request);
    }
    if (verdict == SIPWS_DEFER && count_get(&d->completes_inside)) {
        OK(sipws_decision_complete(decision, SIPWS_REFUSE, 487, "not like that"));
    } else if (verdict == SIPWS_DEFER) {
        count_set(&d->deferred, (size_t)decision);
        count_add(&d->deferrals, 1);
    }
    count_add(&d->asked, 1);
    return verdict;
}

static sipws_status connect_as_alice(side *near_side, side *far_side, sipws_flow_id *flow)
{
    sipws_connect_options options = SIPWS_CONNECT_OPTIONS_INIT;
    sipws_header who;
    char url[128];
    who.name = "X-Who";
    who.value = "alice";
    options.headers = &who;
    options.header_count = 1;
    url_of(far_side->server, url, sizeof url - 16);
    return sipws_connect(near_side->server, strcat(url, "?token=hush"), &options, flow);
}

/* Looks at the answer's status. */
static void note_status(side *s, sipws_flow_id flow, const sipws_message *message)
{
    (void)flow;
    count_set(&s->last_http, sipws_message_status(message));
}

static const doorman DOORMAN_INIT = {COUNTER_INIT, COUNTER_INIT, COUNTER_INIT,
                                     COUNTER_INIT, COUNTER_INIT, COUNTER_INIT};

static sipws_decision *deferred(doorman *d)
{
    return (sipws_decision *)(size_t)count_get(&d->deferred);
}

static void start(doorman *d, side *near_side, side *far_side, int32_t verdict)
{
    sipws_config *config = config_of("ws");
    count_set(&d->handshake, (unsigned)verdict);
    count_set(&d->request, (unsigned)verdict);
    OK(sipws_config_set(config, "timeouts.policy", "300ms"));
    OK(sipws_config_set_policy(config, decide, d, NULL));
    near_side->on_message = note_status;
    side_start(far_side, config);
    side_start(near_side, config_of("ws"));
}

static void what_is_accepted_passes_and_what_is_refused_gets_the_status(void)
{
    doorman d = DOORMAN_INIT;
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    sipws_flow_id flow = 0;
    start(&d, &near_side, &far_side, SIPWS_REFUSE);
    OK(connect_as_alice(&near_side, &far_side, &flow));
    CHECK(count_reaches(&near_side.failed, 1));
    CHECK(count_get(&near_side.last_error) == SIPWS_CONNECT_REFUSED && count_get(&near_side.last_http) == 403);
    count_set(&d.handshake, SIPWS_ACCEPT);
    OK(connect_as_alice(&near_side, &far_side, &flow));
    CHECK(count_reaches(&near_side.opened, 1));
    side_send(&near_side, flow, "OPTIONS", 1);
    CHECK(count_reaches(&near_side.messages, 1) && count_get(&near_side.last_http) == 403);
    CHECK(count_get(&far_side.messages) == 0);
    count_set(&d.request, 77); /* no verdict */
    side_send(&near_side, flow, "OPTIONS", 2);
    CHECK(count_reaches(&near_side.messages, 2) && count_get(&near_side.last_http) == 503);
    count_set(&d.request, SIPWS_ACCEPT);
    side_send(&near_side, flow, "OPTIONS", 3);
    CHECK(count_reaches(&far_side.messages, 1));
    free_server(near_side.server);
    free_server(far_side.server);
}

static void a_deferred_decision_is_made_later_from_any_thread(void)
{
    doorman d = DOORMAN_INIT;
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    sipws_flow_id flow = 0;
    start(&d, &near_side, &far_side, SIPWS_DEFER);
    OK(connect_as_alice(&near_side, &far_side, &flow));
    CHECK(count_reaches(&d.deferrals, 1));
    CHECK(count_get(&near_side.opened) == 0);
    OK(sipws_decision_complete(deferred(&d), SIPWS_REFUSE, 429, "slow down"));
    CHECK_STATUS(sipws_decision_complete(deferred(&d), SIPWS_ACCEPT, 0, NULL), SIPWS_E_HANDLE);
    CHECK(count_reaches(&near_side.failed, 1) && count_get(&near_side.last_http) == 429);

    OK(connect_as_alice(&near_side, &far_side, &flow));
    CHECK(count_reaches(&d.deferrals, 2));
    OK(sipws_decision_complete(deferred(&d), SIPWS_ACCEPT, 0, NULL));
    CHECK(count_reaches(&near_side.opened, 1));
    side_send(&near_side, flow, "OPTIONS", 1);
    CHECK(count_reaches(&d.deferrals, 3));
    OK(sipws_decision_complete(deferred(&d), SIPWS_REFUSE, 603, NULL));
    CHECK(count_reaches(&near_side.messages, 1) && count_get(&near_side.last_http) == 603);

    count_set(&d.completes_inside, 1);
    side_send(&near_side, flow, "OPTIONS", 2);
    CHECK(count_reaches(&near_side.messages, 2) && count_get(&near_side.last_http) == 487);
    CHECK(count_get(&far_side.messages) == 0);
    free_server(near_side.server);
    free_server(far_side.server);
}

static void what_is_decided_too_late_is_told_so(void)
{
    doorman d = DOORMAN_INIT;
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    sipws_flow_id flow = 0;
    start(&d, &near_side, &far_side, SIPWS_DEFER);
    OK(connect_as_alice(&near_side, &far_side, &flow));
    CHECK(count_reaches(&near_side.failed, 1) && count_get(&near_side.last_http) == 503);
    CHECK_STATUS(sipws_decision_complete(deferred(&d), SIPWS_ACCEPT, 0, NULL), SIPWS_E_LATE);

    /* A wrong verdict is told; the decision is made, all the same. */
    OK(connect_as_alice(&near_side, &far_side, &flow));
    CHECK(count_reaches(&d.deferrals, 2));
    CHECK_STATUS(sipws_decision_complete(deferred(&d), SIPWS_REFUSE, 200, NULL), SIPWS_E_INVALID);
    CHECK(count_reaches(&near_side.failed, 2) && count_get(&near_side.last_http) == 503);

    /* One that is owed when the server is freed. */
    OK(connect_as_alice(&near_side, &far_side, &flow));
    CHECK(count_reaches(&d.deferrals, 3));
    free_server(far_side.server);
    CHECK_STATUS(sipws_decision_complete(deferred(&d), SIPWS_ACCEPT, 0, NULL), SIPWS_E_LATE);
    CHECK(count_reaches(&near_side.failed, 3));
    free_server(near_side.server);
}

int main(void)
{
    RUN(what_is_accepted_passes_and_what_is_refused_gets_the_status);
    RUN(a_deferred_decision_is_made_later_from_any_thread);
    RUN(what_is_decided_too_late_is_told_so);
    return 0;
}
