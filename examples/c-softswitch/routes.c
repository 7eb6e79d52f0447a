#include "softswitch.h"

/* Our address on one side, as the other side's Route will name it. */
static pjsip_rr_hdr *record_route(pj_pool_t *pool, const struct listener *side)
{
    pjsip_rr_hdr *header = pjsip_rr_hdr_create(pool);
    pjsip_sip_uri *uri = pjsip_sip_uri_create(pool, PJ_FALSE);
    uri->host = side->host;
    uri->port = side->port;
    uri->transport_param = side->transport;
    uri->lr_param = 1;
    header->name_addr.uri = (pjsip_uri *)uri;
    return header;
}

static void put_on_top(pjsip_msg *msg, pjsip_rr_hdr *header)
{
    pjsip_hdr *first = pjsip_msg_find_hdr(msg, PJSIP_H_RECORD_ROUTE, NULL);
    if (first != NULL)
        pj_list_insert_before(first, header);
    else
        pjsip_msg_add_hdr(msg, (pjsip_hdr *)header);
}

static bool may_form_dialog(const pjsip_rx_data *rdata)
{
    static const pjsip_method subscribe = { PJSIP_OTHER_METHOD, { "SUBSCRIBE", 9 } };
    const pjsip_method *method = &rdata->msg_info.msg->line.req.method;
    return rdata->msg_info.to->tag.slen == 0 &&
           (method->id == PJSIP_INVITE_METHOD || pjsip_method_cmp(method, &subscribe) == 0);
}

void routes_pass(pjsip_tx_data *tdata, const pjsip_rx_data *rdata)
{
    pjsip_msg *msg = tdata->msg;
    pjsip_route_hdr *route;
    const struct listener *leaves_by = NULL;
    while ((route = pjsip_msg_find_hdr(msg, PJSIP_H_ROUTE, NULL)) != NULL && is_own(route->name_addr.uri)) {
        leaves_by = listener_named(route->name_addr.uri);
        pj_list_erase(route);
    }
    pjsip_sip_uri *target = sip_uri_of(msg->line.req.uri);
    /* What a wss client says of another's Contact is always `ws`, and our transport, which can't know better, took it
     * for `wss` (RFC 7118 section 5.3). In a dialog our last Record-Route knows by which side the other one is reached. */
    if (rdata->msg_info.to->tag.slen > 0 && route == NULL && leaves_by != NULL && target != NULL && target->transport_param.slen > 0 &&
        pj_strnicmp2(&leaves_by->transport, "ws", 2) == 0 && pj_strnicmp2(&target->transport_param, "ws", 2) == 0)
        target->transport_param = leaves_by->transport;

    if (!may_form_dialog(rdata))
        return;
    const pjsip_sip_uri *next = route != NULL ? sip_uri_of(route->name_addr.uri) : target;
    const struct listener *in = listener_of((pjsip_transport_type_e)rdata->tp_info.transport->key.type);
    const struct listener *out = next != NULL ? listener_of(transport_to(next)) : NULL;
    /* Two where the sides differ (RFC 5658), so that each client finds a transport that it speaks. */
    if (in != NULL)
        put_on_top(msg, record_route(tdata->pool, in));
    if (out != NULL && out != in)
        put_on_top(msg, record_route(tdata->pool, out));
}

/* Whether a response comes from the client itself: no proxy behind us has put itself into its route. */
static bool is_direct(const pjsip_msg *response)
{
    const pjsip_rr_hdr *first = pjsip_msg_find_hdr(response, PJSIP_H_RECORD_ROUTE, NULL);
    return first == NULL || is_own(first->name_addr.uri);
}

static bool leads_nowhere(const pj_str_t *host)
{
    static const pj_str_t suffix = { ".invalid", 8 };
    const pj_str_t end = { host->ptr + host->slen - suffix.slen, suffix.slen };
    return host->slen > suffix.slen && pj_stricmp(&end, &suffix) == 0;
}

void routes_pass_back(pjsip_tx_data *tdata, const pjsip_rx_data *rdata)
{
    pjsip_msg *msg = tdata->msg;
    pjsip_rr_hdr *header = pjsip_msg_find_hdr(msg, PJSIP_H_RECORD_ROUTE, NULL);
    /* A wss client returned our Record-Routes of both sides with `ws`, which became `wss`, for both. */
    for (; header != NULL; header = pjsip_msg_find_hdr(msg, PJSIP_H_RECORD_ROUTE, header->next)) {
        const struct listener *side = listener_named(header->name_addr.uri);
        if (side != NULL)
            sip_uri_of(header->name_addr.uri)->transport_param = side->transport;
    }
    const struct listener *side = listener_of((pjsip_transport_type_e)rdata->tp_info.transport->key.type);
    pjsip_contact_hdr *contact = pjsip_msg_find_hdr(msg, PJSIP_H_CONTACT, NULL);
    pjsip_sip_uri *uri = contact != NULL && contact->uri != NULL ? sip_uri_of(contact->uri) : NULL;
    /* The way back to a WebSocket client is its connection, which PJSIP finds by its address. */
    if (uri != NULL && side != NULL && leads_nowhere(&uri->host) && is_direct(msg)) {
        pj_strdup2(tdata->pool, &uri->host, rdata->pkt_info.src_name);
        uri->port = rdata->pkt_info.src_port;
        uri->transport_param = side->transport;
    }
}
