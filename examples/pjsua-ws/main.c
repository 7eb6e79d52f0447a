/*
 * A phone on pjsua-lib that speaks SIP over WebSocket.
 *
 *     pjsua-ws [--config FILE] [--seconds N] [--log LEVEL] AOR PROXY PASSWORD [CALLEE]
 *     pjsua-ws sip:alice@example.com "sip:example.com:443;transport=wss;lr" secret sip:bob@example.com
 *
 * Registers AOR by way of PROXY. With CALLEE it calls, talks for N seconds (3), and hangs up; without, it answers the
 * first call, and waits until that is over. Then it unregisters. There is no sound card: silence is sent. Exits with 0
 * if the call was answered and went on to its end. --config: settings of sipws, such as [client] verify and ca; it should
 * say `listen = []`, or there will be listeners, too.
 */
#include <pjsua-lib/pjsua.h>
#include <sipws_pjsip.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* For anything that has to come from over there: registration, an answer, the end of a registration. */
#define PATIENCE_MS 20000

static struct {
    const char *config, *aor, *proxy, *password, *callee;
    int seconds, log;
} options = { .seconds = 3, .log = 1 };

/* What the callbacks have to tell. They run in pjsua_handle_events, on this program's only thread. */
static bool registered, unregistered, refused;
static bool answered, over;
static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

static void on_registration(pjsua_acc_id account, pjsua_reg_info *info)
{
    (void)account;
    const struct pjsip_regc_cbparam *result = info->cbparam;
    if (result->status != PJ_SUCCESS || result->code / 100 != 2) {
        printf("registration failed: %d %.*s\n", result->code, (int)result->reason.slen, result->reason.ptr);
        refused = true;
    } else if (result->expiration > 0 && result->expiration != PJSIP_EXPIRES_NOT_SPECIFIED) {
        printf("registered\n");
        registered = true;
    } else {
        printf("unregistered\n");
        unregistered = true;
    }
}

static void on_incoming_call(pjsua_acc_id account, pjsua_call_id call, pjsip_rx_data *rdata)
{
    (void)account, (void)rdata;
    pjsua_call_info info;
    pjsua_call_get_info(call, &info);
    printf("call from %.*s\n", (int)info.remote_info.slen, info.remote_info.ptr);
    pjsua_call_answer(call, PJSIP_SC_OK, NULL, NULL);
}

static void on_call_state(pjsua_call_id call, pjsip_event *event)
{
    (void)event;
    pjsua_call_info info;
    pjsua_call_get_info(call, &info);
    printf("call %.*s: %d %.*s\n", (int)info.state_text.slen, info.state_text.ptr, info.last_status,
           (int)info.last_status_text.slen, info.last_status_text.ptr);
    if (info.state == PJSIP_INV_STATE_CONFIRMED)
        answered = true;
    if (info.state == PJSIP_INV_STATE_DISCONNECTED)
        over = true;
}

/* Lets everything happen until one of the two is true. False: neither was, in time. */
static bool wait_for(const bool *this, const bool *or_that, int ms)
{
    pj_time_val now, until;
    pj_gettickcount(&until);
    until.msec += ms;
    pj_time_val_normalize(&until);
    for (;;) {
        if (*this || *or_that)
            return true;
        pj_gettickcount(&now);
        if (stopping || PJ_TIME_VAL_GT(now, until))
            return false;
        pjsua_handle_events(50);
    }
}

static void must(pj_status_t status, const char *what)
{
    char why[PJ_ERR_MSG_SIZE];
    if (status == PJ_SUCCESS)
        return;
    pj_strerror(status, why, sizeof why);
    fprintf(stderr, "pjsua-ws: %s: %s\n", what, why);
    pjsua_destroy2(PJSUA_DESTROY_NO_NETWORK);
    exit(1);
}

static sipws_pjsip *start(void)
{
    pjsua_config ua;
    pjsua_logging_config log;
    pjsua_media_config media;
    pjsua_config_default(&ua);
    pjsua_logging_config_default(&log);
    pjsua_media_config_default(&media);
    media.clock_rate = 8000; /* that of the one codec below: a PJSIP without resampling can do nothing else */
    /* One thread for everything. A thread for media would race with the one that starts a call's: a packet that comes
     * just then has no source address any more, and PJSIP (2.17) aborts. */
    ua.thread_cnt = 0;
    media.has_ioqueue = PJ_FALSE;
    media.thread_cnt = 0;
    ua.cb.on_reg_state2 = on_registration;
    ua.cb.on_incoming_call = on_incoming_call;
    ua.cb.on_call_state = on_call_state;
    log.level = log.console_level = (unsigned)options.log;
    must(pjsua_init(&ua, &log, &media), "pjsua_init");
    must(pjsua_set_null_snd_dev(), "null sound device");
    pj_str_t every = pj_str("*"), pcmu = pj_str("PCMU");
    pjsua_codec_set_priority(&every, PJMEDIA_CODEC_PRIO_DISABLED);
    must(pjsua_codec_set_priority(&pcmu, PJMEDIA_CODEC_PRIO_HIGHEST), "codec PCMU");

    /* The one line by which pjsua can do WebSocket. Outgoing connections need no listener. */
    sipws_config *config = NULL;
    sipws_pjsip *websocket = NULL;
    char why[1024];
    if (options.config != NULL && sipws_config_from_file(options.config, &config) != SIPWS_OK) {
        sipws_last_error(why, sizeof why);
        fprintf(stderr, "pjsua-ws: %s\n", why);
        must(PJ_EINVAL, options.config);
    }
    pj_status_t status = sipws_pjsip_start(pjsua_get_pjsip_endpt(), config, &websocket);
    sipws_config_free(config);
    if (status != PJ_SUCCESS) {
        sipws_last_error(why, sizeof why);
        fprintf(stderr, "pjsua-ws: %s\n", why);
    }
    must(status, "WebSocket transport");

    /* pjsua takes no account before it has a transport of PJSIP's own; nothing is sent by this one. */
    pjsua_transport_config udp;
    pjsua_transport_config_default(&udp);
    udp.bound_addr = pj_str("127.0.0.1");
    must(pjsua_transport_create(PJSIP_TRANSPORT_UDP, &udp, NULL), "UDP transport");
    must(pjsua_start(), "pjsua_start");
    return websocket;
}

static pjsua_acc_id add_account(void)
{
    pjsua_acc_config account;
    pjsua_acc_id id;
    pjsua_acc_config_default(&account);
    account.id = pj_str((char *)options.aor);
    /* The registrar is the domain: the address without the user. */
    char registrar[256];
    const char *at = strchr(options.aor, '@');
    snprintf(registrar, sizeof registrar, "sip:%s", at != NULL ? at + 1 : options.aor);
    account.reg_uri = pj_str(registrar);
    account.proxy_cnt = 1;
    account.proxy[0] = pj_str((char *)options.proxy);
    account.cred_count = 1;
    account.cred_info[0].realm = pj_str("*");
    account.cred_info[0].scheme = pj_str("digest");
    char user[128] = "";
    sscanf(options.aor, "%*[^:]:%127[^@]", user);
    account.cred_info[0].username = pj_str(user);
    account.cred_info[0].data_type = PJSIP_CRED_DATA_PLAIN_PASSWD;
    account.cred_info[0].data = pj_str((char *)options.password);
    /* Nothing reaches a WebSocket client but by its own connection: the address that a server sees it at is of no use
     * to anybody, and its Contact stays the name that leads nowhere (RFC 7118 section 5.1). */
    account.allow_contact_rewrite = PJ_FALSE;
    account.allow_via_rewrite = PJ_FALSE;
    account.reg_retry_interval = 0; /* one try */
    account.unreg_timeout = 2000;
    must(pjsua_acc_add(&account, PJ_TRUE, &id), "account");
    return id;
}

/* True: a call was answered, and has come to its end. */
static bool call(pjsua_acc_id account)
{
    bool never = false;
    if (options.callee == NULL) {
        printf("waiting for a call\n");
        while (!over && !stopping)
            wait_for(&over, &never, PATIENCE_MS);
        return answered && over;
    }
    pj_str_t callee = pj_str((char *)options.callee);
    pj_status_t status = pjsua_call_make_call(account, &callee, NULL, NULL, NULL, NULL);
    if (status != PJ_SUCCESS || !wait_for(&answered, &over, PATIENCE_MS) || !answered)
        return false;
    wait_for(&over, &never, options.seconds * 1000);
    pjsua_call_hangup_all();
    return wait_for(&over, &never, PATIENCE_MS);
}

static int usage(void)
{
    fprintf(stderr, "usage: pjsua-ws [--config FILE] [--seconds N] [--log LEVEL] AOR PROXY PASSWORD [CALLEE]\n");
    return 2;
}

static bool read_options(int argc, char **argv)
{
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        if (strcmp(argv[at], "--config") == 0)
            options.config = argv[at + 1];
        else if (strcmp(argv[at], "--seconds") == 0)
            options.seconds = atoi(argv[at + 1]);
        else if (strcmp(argv[at], "--log") == 0)
            options.log = atoi(argv[at + 1]);
        else
            return false;
    }
    if (argc - at < 3 || argc - at > 4)
        return false;
    options.aor = argv[at];
    options.proxy = argv[at + 1];
    options.password = argv[at + 2];
    options.callee = argc - at == 4 ? argv[at + 3] : NULL;
    return true;
}

int main(int argc, char **argv)
{
    if (!read_options(argc, argv))
        return usage();
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);

    pj_log_set_level(options.log);
    must(pjsua_create(), "pjsua_create");
    sipws_pjsip *websocket = start();
    pjsua_acc_id account = add_account();
    bool well = wait_for(&registered, &refused, PATIENCE_MS) && registered && call(account);
    if (registered) {
        stopping = 0; /* whoever wants it to end shall still see it say goodbye */
        pjsua_acc_set_registration(account, PJ_FALSE);
        well = wait_for(&unregistered, &refused, PATIENCE_MS) && unregistered && well;
    }
    sipws_pjsip_stop(websocket, 1000);
    pjsua_destroy();
    printf(well ? "done\n" : "failed\n");
    return well ? 0 : 1;
}
