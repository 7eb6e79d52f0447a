#include "softswitch.h"

#include <pjmedia/errno.h>
#include <pjmedia/sdp.h>
#include <pjsip_ua.h>
#include <stdio.h>
#include <string.h>

/* sip:echo@...: answers a call and sends each RTP packet back to where it came from. Plain RTP alone: what a browser
 * offers needs ICE and DTLS-SRTP, which this example has not, and gets a 488. */

#define RTP_MAX 1500
/* Nobody talks for that long to themself; a caller that vanished is let go. */
#define ECHO_SECONDS 600

struct echo {
    pjsip_inv_session *inv;
    pj_sock_t sock;
    pj_activesock_t *active;
    pjmedia_sdp_session *sdp;
    pj_timer_entry end;
};

static void close_echo(struct echo *echo)
{
    pjsip_endpt_cancel_timer(endpt, &echo->end);
    if (echo->active != NULL)
        pj_activesock_close(echo->active); /* and the socket with it */
    else if (echo->sock != PJ_INVALID_SOCKET)
        pj_sock_close(echo->sock);
    echo->active = NULL;
    echo->sock = PJ_INVALID_SOCKET;
}

static pj_bool_t on_rtp(pj_activesock_t *active, void *data, pj_size_t size, const pj_sockaddr_t *from, int from_len,
                        pj_status_t status)
{
    struct echo *echo = pj_activesock_get_user_data(active);
    pj_ssize_t len = (pj_ssize_t)size;
    if (status == PJ_SUCCESS && echo->sock != PJ_INVALID_SOCKET)
        pj_sock_sendto(echo->sock, data, &len, 0, from, from_len);
    return PJ_TRUE;
}

static pj_status_t open_rtp(struct echo *echo, pj_pool_t *pool, const pj_str_t *host, int *port)
{
    static const pj_activesock_cb callbacks = { .on_data_recvfrom = on_rtp };
    int af = pj_memchr(host->ptr, ':', host->slen) ? pj_AF_INET6() : pj_AF_INET();
    pj_sockaddr addr;
    int len = sizeof addr;
    pj_status_t status = pj_sock_socket(af, pj_SOCK_DGRAM(), 0, &echo->sock);
    if (status == PJ_SUCCESS)
        status = pj_sockaddr_init(af, &addr, host, 0);
    if (status == PJ_SUCCESS)
        status = pj_sock_bind(echo->sock, &addr, pj_sockaddr_get_len(&addr));
    if (status == PJ_SUCCESS)
        status = pj_sock_getsockname(echo->sock, &addr, &len);
    if (status == PJ_SUCCESS)
        status = pj_activesock_create(pool, echo->sock, pj_SOCK_DGRAM(), NULL, pjsip_endpt_get_ioqueue(endpt), &callbacks,
                                      echo, &echo->active);
    if (status == PJ_SUCCESS)
        status = pj_activesock_start_recvfrom(echo->active, pool, RTP_MAX, 0);
    *port = pj_sockaddr_get_port(&addr);
    return status;
}

static pj_status_t make_sdp(struct echo *echo, pj_pool_t *pool, const pj_str_t *host, int port)
{
    const char *family = pj_memchr(host->ptr, ':', host->slen) ? "IP6" : "IP4";
    char *text = pj_pool_alloc(pool, 512);
    int len = snprintf(text, 512,
                       "v=0\r\no=- 1 1 IN %s %.*s\r\ns=echo\r\nc=IN %s %.*s\r\nt=0 0\r\n"
                       "m=audio %d RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n",
                       family, STR(*host), family, STR(*host), port);
    return pjmedia_sdp_parse(pool, text, (pj_size_t)len, &echo->sdp);
}

static void on_state(pjsip_inv_session *inv, pjsip_event *event)
{
    PJ_UNUSED_ARG(event);
    struct echo *echo = inv->mod_data[softswitch.id];
    if (inv->state == PJSIP_INV_STATE_CONFIRMED)
        printf("echo: talking\n");
    if (inv->state == PJSIP_INV_STATE_DISCONNECTED && echo != NULL) {
        printf("echo: over\n");
        inv->mod_data[softswitch.id] = NULL;
        close_echo(echo);
    }
}

static void on_new_session(pjsip_inv_session *inv, pjsip_event *event)
{
    PJ_UNUSED_ARG(inv);
    PJ_UNUSED_ARG(event);
}

/* A call on hold, or taken back: PJSIP works out the directions. */
static void on_offer(pjsip_inv_session *inv, const pjmedia_sdp_session *offer)
{
    PJ_UNUSED_ARG(offer);
    struct echo *echo = inv->mod_data[softswitch.id];
    if (echo != NULL)
        pjsip_inv_set_sdp_answer(inv, echo->sdp);
}

static void too_long(pj_timer_heap_t *heap, pj_timer_entry *entry)
{
    PJ_UNUSED_ARG(heap);
    struct echo *echo = entry->user_data;
    pjsip_tx_data *bye;
    if (pjsip_inv_end_session(echo->inv, 480, NULL, &bye) == PJ_SUCCESS && bye != NULL)
        pjsip_inv_send_msg(echo->inv, bye);
}

bool extension_start(void)
{
    static const pjsip_inv_callback callbacks = {
        .on_state_changed = on_state, .on_new_session = on_new_session, .on_rx_offer = on_offer
    };
    return pjsip_ua_init_module(endpt, NULL) == PJ_SUCCESS && pjsip_100rel_init_module(endpt) == PJ_SUCCESS &&
           pjsip_inv_usage_init(endpt, &callbacks) == PJ_SUCCESS;
}

bool extension_is(const pjsip_uri *uri)
{
    return is_own(uri) && pj_strcmp2(&sip_uri_of(uri)->user, "echo") == 0;
}

static bool offers_plain_rtp(pjsip_rx_data *rdata)
{
    const pjsip_rdata_sdp_info *info = pjsip_rdata_get_sdp_info(rdata);
    if (info->sdp == NULL) /* then the offer is ours */
        return rdata->msg_info.msg->body == NULL;
    for (unsigned i = 0; i < info->sdp->media_count; i++)
        if (pj_strcmp2(&info->sdp->media[i]->desc.media, "audio") == 0 &&
            pj_stricmp2(&info->sdp->media[i]->desc.transport, "RTP/AVP") == 0)
            return true;
    return false;
}

static void refuse(pjsip_rx_data *rdata, int code)
{
    pjsip_endpt_respond_stateless(endpt, rdata, code, NULL, NULL, NULL);
}

void extension_invite(pjsip_rx_data *rdata)
{
    unsigned options = 0;
    pjsip_tx_data *response = NULL;
    const pjsip_transport *transport = rdata->tp_info.transport;
    const struct listener *side = listener_of((pjsip_transport_type_e)transport->key.type);
    if (side == NULL || !offers_plain_rtp(rdata)) {
        refuse(rdata, 488);
        return;
    }
    if (pjsip_inv_verify_request(rdata, &options, NULL, NULL, endpt, &response) != PJ_SUCCESS) {
        pjsip_response_addr to;
        if (response == NULL)
            refuse(rdata, 400);
        else if (pjsip_get_response_addr(response->pool, rdata, &to) != PJ_SUCCESS ||
                 pjsip_endpt_send_response(endpt, &to, response, NULL, NULL) != PJ_SUCCESS)
            pjsip_tx_data_dec_ref(response);
        return;
    }
    char text[256];
    pj_str_t contact = { text, snprintf(text, sizeof text, "<sip:echo@%s%.*s%s:%d;transport=%.*s>",
                                        side->type & PJSIP_TRANSPORT_IPV6 ? "[" : "", STR(side->host),
                                        side->type & PJSIP_TRANSPORT_IPV6 ? "]" : "", side->port,
                                        STR(side->transport)) };
    pjsip_dialog *dialog;
    if (pjsip_dlg_create_uas_and_inc_lock(pjsip_ua_instance(), rdata, &contact, &dialog) != PJ_SUCCESS) {
        refuse(rdata, 500);
        return;
    }
    struct echo *echo = PJ_POOL_ZALLOC_T(dialog->pool, struct echo);
    int port = 0;
    echo->sock = PJ_INVALID_SOCKET;
    pj_timer_entry_init(&echo->end, 0, echo, too_long);
    pj_status_t status = open_rtp(echo, dialog->pool, &side->host, &port);
    if (status == PJ_SUCCESS)
        status = make_sdp(echo, dialog->pool, &side->host, port);
    if (status == PJ_SUCCESS)
        status = pjsip_inv_create_uas(dialog, rdata, echo->sdp, options, &echo->inv);
    if (status != PJ_SUCCESS) {
        close_echo(echo);
        pjsip_dlg_respond(dialog, rdata, 500, NULL, NULL, NULL);
        pjsip_dlg_dec_lock(dialog);
        return;
    }
    echo->inv->mod_data[softswitch.id] = echo;
    pj_time_val end = { ECHO_SECONDS, 0 };
    pjsip_endpt_schedule_timer(endpt, &echo->end, &end);
    printf("echo: call\n");
    if (pjsip_inv_initial_answer(echo->inv, rdata, 200, NULL, NULL, &response) == PJ_SUCCESS)
        pjsip_inv_send_msg(echo->inv, response);
    else
        pjsip_inv_terminate(echo->inv, 500, PJ_FALSE);
    pjsip_dlg_dec_lock(dialog);
}
