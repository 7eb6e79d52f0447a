/*
 * A small softswitch for WebSocket, UDP and TCP clients of SIP.
 *
 *     c-softswitch [--config FILE] [--domain NAME]... [--log LEVEL] [URL...]
 *
 * URL: ws://127.0.0.1:8080/ wss://127.0.0.1:8443/ udp://127.0.0.1:5060 tcp://127.0.0.1:5060 (all four, unless said
 * otherwise; port 0: any free one). --config: settings of sipws (certificates, origins, limits), as sipwsd has them.
 */
#include "softswitch.h"

#include <pjlib-util.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

pjsip_endpoint *endpt;
static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

static pj_bool_t on_request(pjsip_rx_data *rdata)
{
    const pjsip_method *method = &rdata->msg_info.msg->line.req.method;
    const pjsip_uri *uri = rdata->msg_info.msg->line.req.uri;
    pjsip_via_hdr *via = rdata->msg_info.via;
    /* Whoever is on a connection is found by its address again, whether they ask for it (RFC 3581) or not. */
    if (via->rport_param <= 0 && PJSIP_TRANSPORT_IS_RELIABLE(rdata->tp_info.transport))
        via->rport_param = rdata->pkt_info.src_port;

    if (method->id == PJSIP_REGISTER_METHOD && is_own(uri)) {
        registrar_register(rdata);
    } else if (extension_is(uri)) {
        /* All but the first INVITE belongs to a dialog, which PJSIP knows. */
        if (method->id != PJSIP_INVITE_METHOD || rdata->msg_info.to->tag.slen > 0)
            return PJ_FALSE;
        extension_invite(rdata);
    } else if (method->id == PJSIP_OPTIONS_METHOD && is_own(uri) && sip_uri_of(uri)->user.slen == 0) {
        pjsip_endpt_respond_stateless(endpt, rdata, 200, NULL, NULL, NULL);
    } else if (method->id == PJSIP_ACK_METHOD) {
        proxy_ack(rdata);
    } else if (method->id == PJSIP_CANCEL_METHOD) {
        proxy_cancel(rdata);
    } else {
        proxy_request(rdata);
    }
    return PJ_TRUE;
}

static pj_bool_t on_response(pjsip_rx_data *rdata)
{
    /* A transaction of ours hands us its responses here, too; they are looked at in proxy_tsx_state. */
    if (pjsip_rdata_get_tsx(rdata) == NULL)
        proxy_stray_response(rdata);
    return PJ_TRUE;
}

pjsip_module softswitch = {
    .name = { "softswitch", 10 },
    .id = -1,
    /* Behind the transactions; before the dialogs, which would answer 481 to those of others. */
    .priority = PJSIP_MOD_PRIORITY_UA_PROXY_LAYER - 1,
    .on_rx_request = on_request,
    .on_rx_response = on_response,
    .on_tsx_state = proxy_tsx_state,
};

static void on_transport(pjsip_transport *transport, pjsip_transport_state state, const pjsip_transport_state_info *info)
{
    (void)info;
    if (state == PJSIP_TP_STATE_DISCONNECTED) {
        registrar_disconnected(transport);
        proxy_disconnected(transport);
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: c-softswitch [--config FILE] [--domain NAME]... [--log LEVEL] [URL...]\n");
    return 2;
}

int main(int argc, char **argv)
{
    char *usual[] = { "ws://127.0.0.1:8080/", "wss://127.0.0.1:8443/", "udp://127.0.0.1:5060", "tcp://127.0.0.1:5060" };
    const char *config = NULL;
    int at = 1, level = 1;
    for (; at < argc && argv[at][0] == '-'; at += 2) {
        if (at + 1 == argc)
            return usage();
        if (strcmp(argv[at], "--config") == 0)
            config = argv[at + 1];
        else if (strcmp(argv[at], "--domain") == 0)
            listeners_add_domain(argv[at + 1]);
        else if (strcmp(argv[at], "--log") == 0)
            level = atoi(argv[at + 1]);
        else
            return usage();
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);

    pj_caching_pool pools;
    pj_log_set_level(level);
    if (pj_init() != PJ_SUCCESS || pjlib_util_init() != PJ_SUCCESS)
        return 1;
    pj_caching_pool_init(&pools, NULL, 0);
    /* A request too long for UDP goes by UDP all the same: not all of the clients there have TCP. */
    pjsip_cfg()->endpt.disable_tcp_switch = PJ_TRUE;
    bool started = pjsip_endpt_create(&pools.factory, "c-softswitch", &endpt) == PJ_SUCCESS &&
                   pjsip_tsx_layer_init_module(endpt) == PJ_SUCCESS && extension_start() &&
                   pjsip_endpt_register_module(endpt, &softswitch) == PJ_SUCCESS &&
                   pjsip_tpmgr_set_state_cb(pjsip_endpt_get_tpmgr(endpt), on_transport) == PJ_SUCCESS &&
                   (argc > at || config != NULL ? listeners_start(config, argc - at, argv + at)
                                                : listeners_start(NULL, 4, usual));
    if (started) {
        printf("ready\n");
        while (!stopping) {
            pj_time_val timeout = { 0, 200 };
            pjsip_endpt_handle_events(endpt, &timeout);
        }
    }
    listeners_stop();
    if (endpt != NULL)
        pjsip_endpt_destroy(endpt);
    pj_caching_pool_destroy(&pools);
    pj_shutdown();
    if (started)
        printf("stopped\n");
    return started ? 0 : 1;
}
