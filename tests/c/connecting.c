/* Connections of our own: what becomes of them, told exactly once each. */
#include "pair.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static void the_reason_of_a_failure_is_told(void)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    sipws_connect_options options = SIPWS_CONNECT_OPTIONS_INIT;
    sipws_flow_id flow = 0;
    char url[160], *path;
    side_start(&far_side, config_of("wss"));
    side_start(&near_side, config_of("ws"));

    OK(sipws_connect(near_side.server, "ws://127.0.0.1:1/", NULL, &flow));
    CHECK(count_reaches(&near_side.failed, 1) && count_get(&near_side.last_error) == SIPWS_CONNECT_TCP);
    OK(sipws_connect(near_side.server, "ws://nobody.invalid/", NULL, &flow));
    CHECK(count_reaches(&near_side.failed, 2) && count_get(&near_side.last_error) == SIPWS_CONNECT_RESOLVE);

    /* A certificate that nobody vouches for; then not looked at; then vouched for by a file that is not there. */
    url_of(far_side.server, url, sizeof url);
    options.verify = SIPWS_VERIFY_PEER;
    OK(sipws_connect(near_side.server, url, &options, &flow));
    CHECK(count_reaches(&near_side.failed, 3) && count_get(&near_side.last_error) == SIPWS_CONNECT_CERTIFICATE);
    options.ca_file = "/nowhere/ca.pem";
    CHECK_STATUS(sipws_connect(near_side.server, url, &options, &flow), SIPWS_E_TLS);
    options.ca_file = NULL;
    options.verify = SIPWS_VERIFY_NONE;
    OK(sipws_connect(near_side.server, url, &options, &flow));
    CHECK(count_reaches(&near_side.opened, 1));
    options.server_name = "sip.example.com";
    OK(sipws_connect(near_side.server, url, &options, &flow));
    CHECK(count_reaches(&near_side.opened, 2));

    path = strstr(url, "/sip");
    CHECK(path);
    strcpy(path, "/nosuch");
    OK(sipws_connect(near_side.server, url, &options, &flow));
    CHECK(count_reaches(&near_side.failed, 4) && count_get(&near_side.last_error) == SIPWS_CONNECT_REFUSED);
    CHECK(count_get(&near_side.last_http) == 404);
    free_server(near_side.server);
    free_server(far_side.server);
}

/* Something that takes connections and says nothing. */
static int silent_listener(char *url, size_t len)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 16) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    snprintf(url, len, "ws://127.0.0.1:%u/", (unsigned)ntohs(address.sin_port));
    return fd;
}

static void silence_ends_with_the_deadline_or_the_server(void)
{
    side near_side = SIDE_INIT;
    sipws_connect_options options = SIPWS_CONNECT_OPTIONS_INIT;
    sipws_flow_id flow = 0;
    char url[64];
    int fd = silent_listener(url, sizeof url);
    long long begun = now_ms();
    side_start(&near_side, config_of("ws"));
    options.deadline_ms = 200;
    OK(sipws_connect(near_side.server, url, &options, &flow));
    CHECK(count_reaches(&near_side.failed, 1) && count_get(&near_side.last_error) == SIPWS_CONNECT_TIMEOUT);
    CHECK(now_ms() - begun >= 200);

    options.deadline_ms = DEADLINE_MS;
    OK(sipws_connect(near_side.server, url, &options, &flow));
    OK(sipws_connect(near_side.server, url, &options, &flow));
    OK(sipws_server_stop(near_side.server, 0));
    CHECK(count_get(&near_side.failed) == 3 && count_get(&near_side.last_error) == SIPWS_CONNECT_FULL);
    CHECK_STATUS(sipws_connect(near_side.server, url, NULL, &flow), SIPWS_E_STATE);
    CHECK(count_get(&near_side.opened) == 0 && count_get(&near_side.closed) == 0);
    free_server(near_side.server);
    close(fd);
}

static void what_can_not_be_meant_is_told_at_once(void)
{
    static const char *const wrong[] = {"",      "http://127.0.0.1/",  "ws://", "ws://127.0.0.1:0/",
                                        "\xff", "ws://127.0.0.1/a b"};
    side near_side = SIDE_INIT;
    sipws_connect_options options = SIPWS_CONNECT_OPTIONS_INIT;
    sipws_config *config = config_of("ws");
    sipws_server *bridge = NULL;
    sipws_header header;
    sipws_flow_id flow = 42;
    size_t i;
    side_start(&near_side, config_of("ws"));
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_STATUS(sipws_connect(near_side.server, wrong[i], NULL, &flow), SIPWS_E_INVALID);
    }
    header.name = "X-Split";
    header.value = "a\r\nEvil: yes";
    options.headers = &header;
    options.header_count = 1;
    CHECK_STATUS(sipws_connect(near_side.server, "ws://127.0.0.1:1/", &options, &flow), SIPWS_E_INVALID);
    header.name = "Host";
    header.value = "x";
    CHECK_STATUS(sipws_connect(near_side.server, "ws://127.0.0.1:1/", &options, &flow), SIPWS_E_INVALID);
    options.headers = NULL;
    CHECK_STATUS(sipws_connect(near_side.server, "ws://127.0.0.1:1/", &options, &flow), SIPWS_E_NULL);
    options.header_count = 0;
    options.origin = "a\nb";
    CHECK_STATUS(sipws_connect(near_side.server, "ws://127.0.0.1:1/", &options, &flow), SIPWS_E_INVALID);
    options.origin = NULL;
    options.server_name = "x";
    CHECK_STATUS(sipws_connect(near_side.server, "ws://localhost:1/", &options, &flow), SIPWS_E_INVALID);

    OK(sipws_server_new(config, &bridge));
    OK(sipws_server_start(bridge));
    CHECK_STATUS(sipws_connect(bridge, "ws://127.0.0.1:1/", NULL, &flow), SIPWS_E_STATE);
    CHECK(flow == 42 && count_get(&near_side.failed) == 0);
    free_server(bridge);
    sipws_config_free(config);
    free_server(near_side.server);
}

static char *read_file(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    char *text = (char *)malloc(65536);
    CHECK(file && text);
    *len = fread(text, 1, 65536, file);
    fclose(file);
    return text;
}

static const char *certificate_path, *key_path;

static void a_server_is_believed_whose_certificate_is_vouched_for(void)
{
    side near_side = SIDE_INIT, far_side = SIDE_INIT;
    sipws_connect_options options = SIPWS_CONNECT_OPTIONS_INIT;
    sipws_flow_info_t info = SIPWS_FLOW_INFO_INIT;
    sipws_config *config = config_of("wss");
    sipws_bytes chain, key;
    sipws_flow_id flow = 0;
    char url[128];
    char *const chain_text = read_file(certificate_path, &chain.len), *const key_text = read_file(key_path, &key.len);
    chain.data = chain_text;
    key.data = key_text;
    CHECK_STATUS(sipws_config_set_tls_pem(config, key, chain), SIPWS_E_TLS);
    OK(sipws_config_set_tls_pem(config, chain, key));
    memset(chain_text, 0, chain.len);
    memset(key_text, 0, key.len); /* they were copied */
    far_side.echoes = 1;
    side_start(&far_side, config);
    side_start(&near_side, config_of("ws"));
    url_of(far_side.server, url, sizeof url);

    options.verify = SIPWS_VERIFY_PEER;
    options.ca_file = certificate_path;
    options.server_name = "sip.example.com";
    OK(sipws_connect(near_side.server, url, &options, &flow));
    CHECK(count_reaches(&near_side.opened, 1));
    OK(sipws_flow_info(near_side.server, flow, &info));
    CHECK(info.secure == 1 && info.outgoing == 1);
    side_send(&near_side, flow, "OPTIONS", 1);
    CHECK(count_reaches(&near_side.messages, 1));
    options.server_name = "other.example.com";
    OK(sipws_connect(near_side.server, url, &options, &flow));
    CHECK(count_reaches(&near_side.failed, 1) && count_get(&near_side.last_error) == SIPWS_CONNECT_CERTIFICATE);
    free_server(near_side.server);
    free_server(far_side.server);
    free(chain_text);
    free(key_text);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    certificate_path = argv[1];
    key_path = argv[2];
    RUN(a_server_is_believed_whose_certificate_is_vouched_for);
    RUN(the_reason_of_a_failure_is_told);
    RUN(silence_ends_with_the_deadline_or_the_server);
    RUN(what_can_not_be_meant_is_told_at_once);
    return 0;
}
