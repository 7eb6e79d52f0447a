#include "softswitch.h"

#include <stdio.h>

/* A call that rings for longer is cancelled (RFC 3261 section 16.6 step 11). */
#define TIMER_C_SECONDS 181
/* What waits for an answer to CANCEL's INVITE (section 9.1). */
#define CANCELLED_MS 32000

struct fork;

/* One of the places that a request was sent to. */
struct branch {
    struct fork *fork;
    pjsip_transaction *tsx;
    bool provisional; /* before it, nothing can be cancelled */
    bool cancel;      /* is wanted, or sent */
    bool done;        /* its final answer is there */
};

/* A request that is being passed on: its client's transaction, and ours to everywhere that it went. */
struct fork {
    PJ_DECL_LIST_MEMBER(struct fork);
    pj_pool_t *pool;
    pjsip_rx_data *request;
    pjsip_transaction *uas; /* NULL: over */
    pjsip_tx_data *best;    /* of the failures */
    int count, done, gone;
    bool answered;
    bool invite;
    pj_timer_entry timer_c;
    struct branch branches[CONTACTS_MAX];
};

/* All that there are. */
static struct fork forks = { .prev = &forks, .next = &forks };

static void say(const pjsip_rx_data *rdata, const char *what)
{
    const pjsip_sip_uri *from = sip_uri_of(rdata->msg_info.from->uri), *to = sip_uri_of(rdata->msg_info.to->uri);
    if (from != NULL && to != NULL)
        printf("%s %.*s -> %.*s\n", what, STR(from->user), STR(to->user));
}

static void refuse(pjsip_rx_data *rdata, int code)
{
    pjsip_endpt_respond_stateless(endpt, rdata, code, NULL, NULL, NULL);
}

/* Frees a fork when none of its transactions is left. */
static void let_go(struct fork *fork)
{
    if (fork->uas != NULL || fork->gone < fork->count)
        return;
    pjsip_endpt_cancel_timer(endpt, &fork->timer_c);
    if (fork->best != NULL)
        pjsip_tx_data_dec_ref(fork->best);
    pjsip_rx_data_free_cloned(fork->request);
    pj_list_erase(fork);
    pjsip_endpt_release_pool(endpt, fork->pool);
}

static void answer(struct fork *fork, pjsip_tx_data *response)
{
    bool final = response->msg->line.status.code >= 200;
    if (fork->uas == NULL || fork->answered) {
        pjsip_tx_data_dec_ref(response);
        return;
    }
    fork->answered = final;
    bool success = final && response->msg->line.status.code < 300;
    if (pjsip_tsx_send_msg(fork->uas, response) != PJ_SUCCESS)
        pjsip_tx_data_dec_ref(response);
    else if (fork->invite && success && fork->uas != NULL)
        /* Its ACK has a branch of its own and never meets this transaction; the callee repeats its 2xx until the ACK
         * comes, and proxy_stray_response passes that on (section 13.3.1.4; RFC 6026). */
        pjsip_tsx_stop_retransmit(fork->uas);
}

static void answer_code(struct fork *fork, int code)
{
    pjsip_tx_data *response;
    if (pjsip_endpt_create_response(endpt, fork->request, code, NULL, &response) == PJ_SUCCESS)
        answer(fork, response);
}

static void cancel(struct branch *branch)
{
    branch->cancel = true;
    if (!branch->provisional || branch->done)
        return;
    pjsip_tx_data *request;
    if (pjsip_endpt_create_cancel(endpt, branch->tsx->last_tx, &request) == PJ_SUCCESS)
        pjsip_endpt_send_request(endpt, request, -1, NULL, NULL);
    pjsip_tsx_set_timeout(branch->tsx, CANCELLED_MS);
}

static void cancel_all(struct fork *fork)
{
    for (int i = 0; i < fork->count; i++)
        if (!fork->branches[i].cancel && fork->invite)
            cancel(&fork->branches[i]);
}

static void timer_c(pj_timer_heap_t *heap, pj_timer_entry *entry)
{
    PJ_UNUSED_ARG(heap);
    cancel_all(entry->user_data);
}

/* Section 16.7 step 6: a 6xx first, else the lowest. */
static bool better(int a, int b)
{
    return (a >= 600) != (b >= 600) ? a >= 600 : a < b;
}

/* A branch has failed; `response` (may be NULL) is what it said. The last one sends the best answer. */
static void failed(struct branch *branch, int code, pjsip_tx_data *response)
{
    struct fork *fork = branch->fork;
    branch->done = true;
    fork->done++;
    if (response == NULL)
        pjsip_endpt_create_response(endpt, fork->request, code, NULL, &response);
    if (response != NULL && (fork->best == NULL || better(code, fork->best->msg->line.status.code))) {
        pjsip_tx_data *worse = fork->best;
        fork->best = response;
        response = worse;
    }
    if (response != NULL)
        pjsip_tx_data_dec_ref(response);
    if (code >= 600)
        cancel_all(fork);
    if (fork->done == fork->count && fork->best != NULL) {
        pjsip_tx_data *best = fork->best;
        fork->best = NULL;
        answer(fork, best);
    }
}

static void on_response(struct branch *branch, pjsip_rx_data *rdata)
{
    struct fork *fork = branch->fork;
    int code = rdata->msg_info.msg->line.status.code;
    pjsip_tx_data *response;
    if (branch->done)
        return;
    if (code < 200 && !branch->provisional) {
        branch->provisional = true;
        if (branch->cancel)
            cancel(branch);
    }
    if (code == 100 || pjsip_endpt_create_response_fwd(endpt, rdata, 0, &response) != PJ_SUCCESS)
        return;
    routes_pass_back(response, rdata);
    if (code < 200) {
        answer(fork, response);
    } else if (code < 300) {
        branch->done = true;
        fork->done++;
        if (fork->answered) { /* by another: the caller has to hear of both, and to hang one of them up */
            pjsip_tx_data_dec_ref(response);
            proxy_stray_response(rdata);
            return;
        }
        if (fork->invite)
            say(rdata, "answered");
        answer(fork, response);
        cancel_all(fork);
    } else {
        failed(branch, code, response);
    }
}

void proxy_tsx_state(pjsip_transaction *tsx, pjsip_event *event)
{
    if (event->type != PJSIP_EVENT_TSX_STATE || tsx->mod_data[softswitch.id] == NULL)
        return;
    if (tsx->role == PJSIP_ROLE_UAS) {
        struct fork *fork = tsx->mod_data[softswitch.id];
        if (tsx->state == PJSIP_TSX_STATE_TERMINATED) {
            tsx->mod_data[softswitch.id] = NULL;
            fork->uas = NULL;
            if (!fork->answered)
                cancel_all(fork);
            let_go(fork);
        }
        return;
    }
    struct branch *branch = tsx->mod_data[softswitch.id];
    if (event->body.tsx_state.type == PJSIP_EVENT_RX_MSG)
        on_response(branch, event->body.tsx_state.src.rdata);
    if (tsx->state == PJSIP_TSX_STATE_TERMINATED) {
        /* Without a word from over there: no answer in time, or no connection. */
        if (!branch->done)
            failed(branch, tsx->status_code >= 300 ? tsx->status_code : 408, NULL);
        tsx->mod_data[softswitch.id] = NULL;
        branch->fork->gone++;
        let_go(branch->fork);
    }
}

void proxy_disconnected(const pjsip_transport *transport)
{
    struct fork *fork = forks.next, *next;
    for (; fork != &forks; fork = next) {
        next = fork->next;
        if (fork->uas != NULL && fork->uas->transport == transport)
            cancel_all(fork);
        /* One that ends may be the fork's last, and take it along: so the last of them is looked at last. */
        for (int i = 0, count = fork->count; i < count; i++) {
            struct branch *branch = &fork->branches[i];
            bool last = fork->gone + 1 == count;
            if (!branch->done && branch->tsx != NULL && branch->tsx->transport == transport)
                pjsip_tsx_terminate(branch->tsx, PJSIP_SC_SERVICE_UNAVAILABLE);
            if (last)
                break;
        }
    }
}

/* Where a request goes: what it says itself, or where its user has registered. */
static int targets_of(pjsip_rx_data *rdata, pjsip_uri **out)
{
    pjsip_uri *uri = rdata->msg_info.msg->line.req.uri;
    if (is_own(uri))
        return registrar_contacts(&sip_uri_of(uri)->user, rdata->tp_info.pool, out);
    /* Elsewhere only in a dialog that passes here by our Record-Route: this is no relay for strangers. */
    const pjsip_route_hdr *route = rdata->msg_info.route;
    if (rdata->msg_info.to->tag.slen == 0 || route == NULL || !is_own(route->name_addr.uri))
        return 0;
    out[0] = uri;
    return 1;
}

static struct fork *fork_of(pjsip_rx_data *rdata)
{
    pj_pool_t *pool = pjsip_endpt_create_pool(endpt, "fork", 1024, 1024);
    if (pool == NULL)
        return NULL;
    struct fork *fork = PJ_POOL_ZALLOC_T(pool, struct fork);
    fork->pool = pool;
    fork->invite = rdata->msg_info.msg->line.req.method.id == PJSIP_INVITE_METHOD;
    pj_timer_entry_init(&fork->timer_c, 0, fork, timer_c);
    if (pjsip_rx_data_clone(rdata, 0, &fork->request) != PJ_SUCCESS) {
        pjsip_endpt_release_pool(endpt, pool);
        return NULL;
    }
    pj_list_push_back(&forks, fork);
    if (pjsip_tsx_create_uas(&softswitch, rdata, &fork->uas) != PJ_SUCCESS) {
        fork->uas = NULL;
        let_go(fork);
        return NULL;
    }
    fork->uas->mod_data[softswitch.id] = fork;
    pjsip_tsx_recv_msg(fork->uas, rdata);
    return fork;
}

static void send_branch(struct fork *fork, struct branch *branch, pjsip_rx_data *rdata, pjsip_uri *target)
{
    char text[PJSIP_MAX_BRANCH_LEN];
    pj_str_t id = { text, PJSIP_RFC3261_BRANCH_LEN };
    pj_memcpy(text, PJSIP_RFC3261_BRANCH_ID, PJSIP_RFC3261_BRANCH_LEN);
    pj_str_t unique = { text + PJSIP_RFC3261_BRANCH_LEN, 0 };
    pj_generate_unique_string(&unique);
    id.slen += unique.slen;

    pjsip_tx_data *request;
    branch->fork = fork;
    if (pjsip_endpt_create_request_fwd(endpt, rdata, target, &id, 0, &request) != PJ_SUCCESS) {
        fork->gone++;
        failed(branch, 500, NULL);
        return;
    }
    routes_pass(request, rdata);
    if (pjsip_tsx_create_uac(&softswitch, request, &branch->tsx) != PJ_SUCCESS) {
        pjsip_tx_data_dec_ref(request);
        fork->gone++;
        failed(branch, 500, NULL);
        return;
    }
    branch->tsx->mod_data[softswitch.id] = branch;
    /* Where this fails, the transaction ends, and proxy_tsx_state hears of it. */
    if (pjsip_tsx_send_msg(branch->tsx, request) != PJ_SUCCESS)
        pjsip_tx_data_dec_ref(request);
}

void proxy_request(pjsip_rx_data *rdata)
{
    pjsip_uri *targets[CONTACTS_MAX];
    const pjsip_method *method = &rdata->msg_info.msg->line.req.method;
    if (rdata->msg_info.max_fwd != NULL && rdata->msg_info.max_fwd->ivalue <= 0) {
        refuse(rdata, 483);
        return;
    }
    int count = targets_of(rdata, targets);
    if (count == 0) {
        refuse(rdata, 404);
        return;
    }
    struct fork *fork = fork_of(rdata);
    if (fork == NULL) {
        refuse(rdata, 500);
        return;
    }
    if (method->id == PJSIP_INVITE_METHOD) {
        pj_time_val ring = { TIMER_C_SECONDS, 0 };
        answer_code(fork, 100);
        pjsip_endpt_schedule_timer(endpt, &fork->timer_c, &ring);
        if (rdata->msg_info.to->tag.slen == 0)
            say(rdata, "call");
    } else if (method->id == PJSIP_BYE_METHOD) {
        say(rdata, "hangup");
    }
    /* All of them, before any fails: the last one to end sends the answer. */
    fork->count = count;
    for (int i = 0; i < count; i++)
        send_branch(fork, &fork->branches[i], rdata, targets[i]);
}

void proxy_ack(pjsip_rx_data *rdata)
{
    pjsip_uri *targets[CONTACTS_MAX];
    pjsip_tx_data *request;
    if (targets_of(rdata, targets) == 0 ||
        pjsip_endpt_create_request_fwd(endpt, rdata, targets[0], NULL, 0, &request) != PJ_SUCCESS)
        return;
    routes_pass(request, rdata);
    if (pjsip_endpt_send_request_stateless(endpt, request, NULL, NULL) != PJ_SUCCESS)
        pjsip_tx_data_dec_ref(request);
}

void proxy_cancel(pjsip_rx_data *rdata)
{
    pj_str_t key;
    pjsip_tsx_create_key(rdata->tp_info.pool, &key, PJSIP_ROLE_UAS, pjsip_get_invite_method(), rdata);
    pjsip_transaction *invite = pjsip_tsx_layer_find_tsx(&key, PJ_TRUE);
    struct fork *fork = invite != NULL ? invite->mod_data[softswitch.id] : NULL;
    refuse(rdata, fork != NULL ? 200 : 481);
    if (fork != NULL) {
        say(rdata, "cancel");
        cancel_all(fork);
    }
    if (invite != NULL)
        pj_grp_lock_release(invite->grp_lock);
}

void proxy_stray_response(pjsip_rx_data *rdata)
{
    pjsip_tx_data *response;
    if (pjsip_endpt_create_response_fwd(endpt, rdata, 0, &response) != PJ_SUCCESS)
        return;
    const pjsip_via_hdr *via = pjsip_msg_find_hdr(response->msg, PJSIP_H_VIA, NULL);
    if (via == NULL) {
        pjsip_tx_data_dec_ref(response);
        return;
    }
    routes_pass_back(response, rdata);
    pjsip_response_addr to;
    pj_bzero(&to, sizeof to);
    to.dst_host.type = pjsip_transport_get_type_from_name(&via->transport);
    to.dst_host.flag = pjsip_transport_get_flag_from_type(to.dst_host.type);
    to.dst_host.addr.host = via->recvd_param.slen > 0 ? via->recvd_param : via->sent_by.host;
    to.dst_host.addr.port = via->rport_param > 0   ? via->rport_param
                            : via->sent_by.port > 0 ? via->sent_by.port
                                                    : pjsip_transport_get_default_port_for_type(to.dst_host.type);
    if (pjsip_endpt_send_response(endpt, &to, response, NULL, NULL) != PJ_SUCCESS)
        pjsip_tx_data_dec_ref(response);
}
