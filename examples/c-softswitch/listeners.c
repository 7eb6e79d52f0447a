#include "softswitch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTENERS_MAX 16
#define NAME_MAX_LEN 128

static struct listener listeners[LISTENERS_MAX];
static char hosts[LISTENERS_MAX][NAME_MAX_LEN];
static int listener_count;
static pj_str_t domains[LISTENERS_MAX];
static int domain_count;
static sipws_pjsip *websocket;

static const char *const SCHEMES[] = { "udp", "tcp", "ws", "wss" };
enum { UDP, TCP, WS, WSS };

struct url {
    int scheme; /* of SCHEMES; -1: none of them */
    char host[NAME_MAX_LEN];
    int port;
};

static struct url url_of(const char *text)
{
    struct url url = { -1, "", 0 };
    char scheme[8];
    int end = 0;
    /* An IPv6 address stands in brackets, colons and all. */
    if (sscanf(text, "%7[a-z]://[%127[^]]]:%d%n", scheme, url.host, &url.port, &end) < 3 &&
        sscanf(text, "%7[a-z]://%127[^:/]:%d%n", scheme, url.host, &url.port, &end) < 3)
        return url;
    for (int i = UDP; i <= WSS; i++)
        if (strcmp(scheme, SCHEMES[i]) == 0)
            url.scheme = i;
    return url;
}

static void add(int scheme, pjsip_transport_type_e type, const char *host, int port)
{
    if (listener_count == LISTENERS_MAX)
        return;
    char *name = hosts[listener_count];
    pj_sockaddr any;
    snprintf(name, NAME_MAX_LEN, "%s", host);
    /* Nobody can send to "all addresses": our name is then the machine's address. */
    if (strcmp(host, "0.0.0.0") == 0 && pj_gethostip(pj_AF_INET(), &any) == PJ_SUCCESS)
        pj_sockaddr_print(&any, name, NAME_MAX_LEN, 0);
    else if (strcmp(host, "::") == 0 && pj_gethostip(pj_AF_INET6(), &any) == PJ_SUCCESS)
        pj_sockaddr_print(&any, name, NAME_MAX_LEN, 0);
    listeners[listener_count++] =
        (struct listener){ type, pj_str((char *)SCHEMES[scheme]), pj_str(name), port };
    printf("listening on %s://%s%s%s:%d\n", SCHEMES[scheme], strchr(name, ':') ? "[" : "", name,
           strchr(name, ':') ? "]" : "", port);
}

/* udp and tcp are PJSIP's own. */
static pj_status_t start_own(const struct url *url)
{
    pj_str_t host = pj_str((char *)url->host);
    int af = strchr(url->host, ':') ? pj_AF_INET6() : pj_AF_INET();
    pj_sockaddr addr;
    pj_status_t status = pj_sockaddr_init(af, &addr, &host, (pj_uint16_t)url->port);
    if (status != PJ_SUCCESS)
        return status;
    if (url->scheme == UDP) {
        pjsip_transport *transport;
        status = af == pj_AF_INET6() ? pjsip_udp_transport_start6(endpt, &addr.ipv6, NULL, 1, &transport)
                                     : pjsip_udp_transport_start(endpt, &addr.ipv4, NULL, 1, &transport);
        if (status == PJ_SUCCESS)
            add(UDP, (pjsip_transport_type_e)transport->key.type, url->host,
                pj_sockaddr_get_port(&transport->local_addr));
    } else {
        pjsip_tcp_transport_cfg cfg;
        pjsip_tpfactory *factory;
        pjsip_tcp_transport_cfg_default(&cfg, af);
        cfg.bind_addr = addr;
        cfg.reuse_addr = PJ_TRUE;
        status = pjsip_tcp_transport_start3(endpt, &cfg, &factory);
        if (status == PJ_SUCCESS)
            add(TCP, factory->type, url->host, factory->addr_name.port);
    }
    return status;
}

/* ws and wss are sipws': it says where it listens. */
static bool start_websocket(sipws_config *config)
{
    char text[256];
    pj_status_t status = sipws_pjsip_start(endpt, config, &websocket);
    if (status != PJ_SUCCESS) {
        sipws_last_error(text, sizeof text);
        fprintf(stderr, "c-softswitch: WebSocket transport: %s (%d)\n", text, status);
        return false;
    }
    for (size_t i = 0; config != NULL; i++) {
        if (sipws_server_local_addr(sipws_pjsip_server(websocket), i, text, sizeof text, NULL) != SIPWS_OK)
            break;
        struct url url = url_of(text);
        if (url.scheme == WS || url.scheme == WSS)
            add(url.scheme, sipws_pjsip_transport_type(url.scheme == WSS, strchr(url.host, ':') != NULL), url.host,
                url.port);
    }
    return true;
}

bool listeners_start(const char *file, int count, char **urls)
{
    sipws_config *config = NULL;
    sipws_status made = SIPWS_OK;
    int wanted = 0;
    if (file != NULL)
        made = sipws_config_from_file(file, &config);
    for (int i = 0; i < count && made == SIPWS_OK; i++) {
        struct url url = url_of(urls[i]);
        char key[32];
        if (url.scheme == UDP || url.scheme == TCP) {
            pj_status_t status = start_own(&url);
            if (status != PJ_SUCCESS) {
                char why[PJ_ERR_MSG_SIZE];
                pj_strerror(status, why, sizeof why);
                fprintf(stderr, "c-softswitch: %s: %s\n", urls[i], why);
                sipws_config_free(config);
                return false;
            }
            continue;
        }
        /* Anything else is for sipws to take, or to say what is wrong with it. */
        if (config == NULL)
            made = sipws_config_new(&config);
        snprintf(key, sizeof key, "listen[%d].url", wanted++);
        if (made == SIPWS_OK)
            made = sipws_config_set(config, key, urls[i]);
    }
    if (made != SIPWS_OK) {
        char why[1024];
        sipws_last_error(why, sizeof why);
        fprintf(stderr, "c-softswitch: %s\n", why);
    }
    /* No configuration: no WebSocket listener, but URIs with ;transport=ws can still be called. */
    bool started = made == SIPWS_OK && start_websocket(config);
    sipws_config_free(config);
    return started;
}

void listeners_stop(void)
{
    sipws_pjsip_stop(websocket, 2000);
    websocket = NULL;
}

void listeners_add_domain(const char *domain)
{
    if (domain_count < LISTENERS_MAX)
        domains[domain_count++] = pj_str((char *)domain);
}

const struct listener *listener_of(pjsip_transport_type_e type)
{
    for (int i = 0; i < listener_count; i++)
        if (listeners[i].type == type)
            return &listeners[i];
    return NULL;
}

pjsip_sip_uri *sip_uri_of(const pjsip_uri *uri)
{
    if (!PJSIP_URI_SCHEME_IS_SIP(uri) && !PJSIP_URI_SCHEME_IS_SIPS(uri))
        return NULL;
    return (pjsip_sip_uri *)pjsip_uri_get_uri(uri);
}

pjsip_transport_type_e transport_to(const pjsip_sip_uri *uri)
{
    if (uri->transport_param.slen > 0)
        return pjsip_transport_get_type_from_name(&uri->transport_param);
    return PJSIP_TRANSPORT_UDP;
}

static bool is_websocket(pjsip_transport_type_e type)
{
    return type == sipws_pjsip_transport_type(0, 0) || type == sipws_pjsip_transport_type(1, 0);
}

const struct listener *listener_named(const pjsip_uri *uri)
{
    const pjsip_sip_uri *sip = sip_uri_of(uri);
    for (int i = 0; sip != NULL && i < listener_count; i++) {
        const struct listener *l = &listeners[i];
        if (l->port != sip->port || pj_stricmp(&l->host, &sip->host) != 0)
            continue;
        /* On the wire `ws` stands for both, so that the port tells them apart, and not the transport. */
        pjsip_transport_type_e type = transport_to(sip), own = l->type & ~PJSIP_TRANSPORT_IPV6;
        if (type == own || (is_websocket(type) && is_websocket(own)))
            return l;
    }
    return NULL;
}

bool is_own(const pjsip_uri *uri)
{
    const pjsip_sip_uri *sip = sip_uri_of(uri);
    if (sip == NULL)
        return false;
    bool port = sip->port == 0, host = false;
    for (int i = 0; i < listener_count; i++) {
        port = port || listeners[i].port == sip->port;
        host = host || pj_stricmp(&listeners[i].host, &sip->host) == 0;
    }
    for (int i = 0; i < domain_count; i++)
        host = host || pj_stricmp(&domains[i], &sip->host) == 0;
    return port && host;
}
