/*
 * A small softswitch on pjsip-ua and the WebSocket transport. One thread does everything, so nothing here is locked.
 *
 *   listeners.c   where it listens, and which addresses are its own
 *   registrar.c   who is where (RFC 3261 section 10)
 *   proxy.c       passes requests on between its clients, statefully (section 16)
 *   routes.c      Record-Route and Route of a request that passes (section 16.4, 16.6, 16.12; RFC 5658)
 *   extension.c   answers sip:echo@...
 */
#ifndef SOFTSWITCH_H
#define SOFTSWITCH_H

#include <pjlib.h>
#include <pjsip.h>
#include <sipws_pjsip.h>
#include <stdbool.h>

extern pjsip_endpoint *endpt;
/* Sees all requests before PJSIP's dialogs do, and the responses to what the proxy sent. */
extern pjsip_module softswitch;

/* "%.*s" of a pj_str_t. */
#define STR(s) (int)(s).slen, (s).ptr

/* listeners.c. A URL is ws://, wss://, udp:// or tcp://, with an IP address and a port; port 0: any free one. */

struct listener {
    pjsip_transport_type_e type;
    pj_str_t transport; /* as URIs say it to PJSIP: udp, tcp, ws, wss */
    pj_str_t host;
    int port;
};

/* False, and said why on stderr, where one of them can't be listened on. `config`: NULL, or a file of sipws' settings. */
bool listeners_start(const char *config, int count, char **urls);
void listeners_stop(void);
/* A name that is this softswitch's, too. */
void listeners_add_domain(const char *domain);
/* The first listener of that transport; NULL where there is none. */
const struct listener *listener_of(pjsip_transport_type_e type);
/* The listener that a URI with an address of ours names; NULL: it names none. */
const struct listener *listener_named(const pjsip_uri *uri);
/* Whether a URI is one of our domains or addresses. */
bool is_own(const pjsip_uri *uri);
/* The URI within angle brackets or none; NULL where it is no sip: or sips: URI. */
pjsip_sip_uri *sip_uri_of(const pjsip_uri *uri);
/* The transport that a request to this URI takes. */
pjsip_transport_type_e transport_to(const pjsip_sip_uri *uri);

/* registrar.c */

#define CONTACTS_MAX 8

void registrar_register(pjsip_rx_data *rdata);
/* Up to CONTACTS_MAX URIs, made in `pool`. */
int registrar_contacts(const pj_str_t *user, pj_pool_t *pool, pjsip_uri **out);
/* The connection is gone, and with it whoever was behind it. */
void registrar_disconnected(const pjsip_transport *transport);

/* proxy.c */

void proxy_request(pjsip_rx_data *rdata);
void proxy_ack(pjsip_rx_data *rdata);
void proxy_cancel(pjsip_rx_data *rdata);
/* A response that belongs to no transaction: a 2xx that is repeated until its ACK comes. */
void proxy_stray_response(pjsip_rx_data *rdata);
/* The connection is gone: who was called over it can't answer, and who called can't be answered. */
void proxy_disconnected(const pjsip_transport *transport);
void proxy_tsx_state(pjsip_transaction *tsx, pjsip_event *event);

/* routes.c */

/* Takes our Routes off a request that passes, and puts our Record-Routes in where it may form a dialog. */
void routes_pass(pjsip_tx_data *tdata, const pjsip_rx_data *rdata);
/* Puts right what our transport could not know of a response that passes back. */
void routes_pass_back(pjsip_tx_data *tdata, const pjsip_rx_data *rdata);

/* extension.c */

bool extension_start(void);
/* Whether a request is for it. */
bool extension_is(const pjsip_uri *uri);
void extension_invite(pjsip_rx_data *rdata);

#endif
