/*
 * sipws as a PJSIP transport: `;transport=ws` and `;transport=wss` for any pjsip_endpoint.
 *
 * Part of libsipws_pjsip, which carries no PJSIP of its own: the pj* symbols are those of the host.
 * All functions here are to be called from threads that PJLIB knows (pj_thread_register).
 */
/*
 * What PJSIP reads and what stands on the wire differ in two things. URIs on the wire say `transport=ws` over TLS too (RFC
 * 7118 section 5.3); PJSIP reads, and writes, `transport=wss` on a connection over TLS: in Contact, Route, Record-Route, Path,
 * Service-Route and the Request-URI. A proxy whose other side is plain ws has to see to its own URIs of that side, which
 * come back as wss. And the Contact of a client that has connected to us, with no proxy in between, becomes the address of
 * its connection, by which PJSIP finds it: what is sent to that Contact goes down the connection.
 */
#ifndef SIPWS_PJSIP_H
#define SIPWS_PJSIP_H

#include <pjsip.h>
#include <sipws.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The transport, started on one endpoint. */
typedef struct sipws_pjsip sipws_pjsip;

/*
 * What the host's PJSIP looks like: the library was built against some PJSIP's headers, and structures that both touch
 * must be the same. Filled in by the host's compiler; see sipws_pjsip_start.
 */
typedef struct sipws_pjsip_layout {
    uint32_t size;             /* of this structure */
    uint32_t transport;        /* sizeof(pjsip_transport) */
    uint32_t tpfactory;        /* sizeof(pjsip_tpfactory) */
    uint32_t tx_data;          /* sizeof(pjsip_tx_data) */
    uint32_t rx_data;          /* sizeof(pjsip_rx_data) */
    uint32_t sockaddr;         /* sizeof(pj_sockaddr) */
    uint32_t max_pkt_len;      /* PJSIP_MAX_PKT_LEN */
    uint32_t max_obj_name;     /* PJ_MAX_OBJ_NAME */
    uint32_t version;          /* PJ_VERSION_NUM */
} sipws_pjsip_layout;

#define SIPWS_PJSIP_LAYOUT                                                                                             \
    {                                                                                                                  \
        sizeof(sipws_pjsip_layout), sizeof(pjsip_transport), sizeof(pjsip_tpfactory), sizeof(pjsip_tx_data),           \
            sizeof(pjsip_rx_data), sizeof(pj_sockaddr), PJSIP_MAX_PKT_LEN, PJ_MAX_OBJ_NAME, PJ_VERSION_NUM             \
    }

/*
 * Starts the transport on an endpoint: registers the types WS and WSS, for IPv4 and IPv6 (once a process), opens the
 * listeners of the configuration, and a factory for connections of the endpoint's own. `config` is copied, and may be
 * NULL: then there are no listeners, only outgoing connections.
 *
 * Several starts on one endpoint, and several endpoints one after the other, are allowed. The endpoint must outlive the
 * handle: sipws_pjsip_stop comes before pjsip_endpt_destroy (pjsua: before pjsua_destroy; an endpoint that is destroyed
 * first stops the transport itself, and sipws_pjsip_stop then only frees the handle).
 *
 * Errors: PJ_EINVAL for NULL, PJSIP_ETPNOTSUITABLE for a PJSIP that the library was not built for, PJ_ETOOMANY where
 * PJSIP's table of transports is full, PJ_EEXISTS where somebody else has registered a WS or WSS, PJ_EINVALIDOP on a
 * thread that PJLIB does not know, PJ_EUNKNOWN for what sipws_last_error() then tells.
 */
pj_status_t sipws_pjsip_start_with(pjsip_endpoint *endpt, const sipws_config *config, const sipws_pjsip_layout *layout,
                                   sipws_pjsip **out);

static inline pj_status_t sipws_pjsip_start(pjsip_endpoint *endpt, const sipws_config *config, sipws_pjsip **out)
{
    sipws_pjsip_layout layout = SIPWS_PJSIP_LAYOUT;
    return sipws_pjsip_start_with(endpt, config, &layout, out);
}

/*
 * The same from a configuration file, for dlopen and dlsym; `config_path` may be NULL: no listeners. The layout can't be
 * compared, only PJSIP's version. `out` may be NULL: then the transport lives as long as the endpoint
 * (the handle itself, some hundred bytes, is not given back).
 */
pj_status_t sipws_pjsip_load(pjsip_endpoint *endpt, const char *config_path, sipws_pjsip **out);

/*
 * Stops it: closes the listeners, says goodbye (1001) to the open connections, shuts their transports down, waits up to
 * `grace_ms` until PJSIP has let go of them, while it polls the endpoint, and frees the handle. NULL is allowed.
 * Not from inside a callback of PJSIP's. Later attempts to send get an error.
 */
pj_status_t sipws_pjsip_stop(sipws_pjsip *handle, uint32_t grace_ms);

/* The server inside, for sipws_server_local_addr, sipws_server_stats, sipws_server_metrics, sipws_server_reload; it
 * belongs to the handle. */
sipws_server *sipws_pjsip_server(const sipws_pjsip *handle);

/* Transports of ours that PJSIP has not let go of yet, open or closed (pjsip_tpmgr_get_transport_count counts otherwise). */
uint32_t sipws_pjsip_transports(const sipws_pjsip *handle);

/* The type that PJSIP knows it by: for pjsip_transport_type_e of accounts and pjsip_endpt_acquire_transport. */
pjsip_transport_type_e sipws_pjsip_transport_type(int secure, int ipv6);

#ifdef __cplusplus
}
#endif

#endif
