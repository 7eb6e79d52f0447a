/* A program that makes its endpoint by pjsip_endpt_create gets one with WebSocket. Linked with -Wl,--wrap. */
#include <sipws_pjsip.h>

#include <stdio.h>
#include <stdlib.h>

pj_status_t __real_pjsip_endpt_create(pj_pool_factory *factory, const char *name, pjsip_endpoint **out);
pj_status_t __wrap_pjsip_endpt_create(pj_pool_factory *factory, const char *name, pjsip_endpoint **out);

pj_status_t __wrap_pjsip_endpt_create(pj_pool_factory *factory, const char *name, pjsip_endpoint **out)
{
    /* The endpoint stops it when it is destroyed: a program that knows nothing of it could not. */
    static sipws_pjsip *websocket;
    char text[1024];
    pj_status_t status = __real_pjsip_endpt_create(factory, name, out);
    if (status != PJ_SUCCESS)
        return status;
    status = sipws_pjsip_load(*out, getenv("SIPWS_CONFIG"), &websocket);
    if (status != PJ_SUCCESS) {
        sipws_last_error(text, sizeof text);
        fprintf(stderr, "sipws: %s (%d)\n", text, status);
        return status;
    }
    for (size_t i = 0; sipws_server_local_addr(sipws_pjsip_server(websocket), i, text, sizeof text, NULL) == SIPWS_OK; i++)
        fprintf(stderr, "sipws: listening on %s\n", text);
    return PJ_SUCCESS;
}
