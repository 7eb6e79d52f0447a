/* Starts a server on a free port and stops it: the library is found, when it is linked as when it is run. */
#include <sipws.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    sipws_config *config;
    sipws_server *server;
    sipws_message_handler handler = SIPWS_MESSAGE_HANDLER_INIT;
    char url[64];
    if (sipws_version_number() != SIPWS_VERSION_NUMBER || sipws_config_new(&config) != SIPWS_OK ||
        sipws_config_set(config, "listen[0].url", "ws://127.0.0.1:0/") != SIPWS_OK ||
        sipws_config_set_message_handler(config, &handler, NULL, NULL) != SIPWS_OK ||
        sipws_server_new(config, &server) != SIPWS_OK || sipws_server_start(server) != SIPWS_OK ||
        sipws_server_local_addr(server, 0, url, sizeof url, NULL) != SIPWS_OK ||
        sipws_server_stop(server, 0) != SIPWS_OK)
        return 1;
    sipws_server_free(server);
    sipws_config_free(config);
    printf("%s %s\n", sipws_version_string(), url);
    return 0;
}
