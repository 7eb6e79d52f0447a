/* pjsua's media on the threads of its endpoint. On a thread of its own, PJSIP 2.17 aborts now and then (an assertion in
 * pj_sockaddr_get_len) when RTP arrives while a call's media is being started. Linked with -Wl,--wrap. */
#include <pjsua-lib/pjsua.h>

void __real_pjsua_media_config_default(pjsua_media_config *config);
void __wrap_pjsua_media_config_default(pjsua_media_config *config);

void __wrap_pjsua_media_config_default(pjsua_media_config *config)
{
    __real_pjsua_media_config_default(config);
    config->has_ioqueue = PJ_FALSE;
}
