/* An endpoint with WebSocket, started and stopped. */
#include <pjlib-util.h>
#include <pjlib.h>
#include <sipws_pjsip.h>
#include <stdio.h>

int main(void)
{
    pj_caching_pool pools;
    pjsip_endpoint *endpt;
    sipws_pjsip *websocket;
    char why[512];
    pj_log_set_level(0);
    if (pj_init() != PJ_SUCCESS || pjlib_util_init() != PJ_SUCCESS)
        return 1;
    pj_caching_pool_init(&pools, NULL, 0);
    if (pjsip_endpt_create(&pools.factory, "consumer", &endpt) != PJ_SUCCESS)
        return 1;
    if (sipws_pjsip_start(endpt, NULL, &websocket) != PJ_SUCCESS) {
        sipws_last_error(why, sizeof why);
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    printf("type %d\n", (int)sipws_pjsip_transport_type(1, 0));
    sipws_pjsip_stop(websocket, 1000);
    pjsip_endpt_destroy(endpt);
    pj_caching_pool_destroy(&pools);
    pj_shutdown();
    return 0;
}
