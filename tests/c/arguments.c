/* What the library says to wrong arguments: NULL, other handles, freed ones, numbers out of range, sizes. */
#include "check.h"

static void every_null_argument_is_told(void)
{
    sipws_config *config = config_of("ws");
    sipws_server *server = NULL;
    sipws_event *event = NULL;
    sipws_bytes some = bytes("x");
    sipws_bytes nothing = {NULL, 3};
    sipws_flow_id flow = 0;
    sipws_stats stats = SIPWS_STATS_INIT;
    sipws_flow_info_t info = SIPWS_FLOW_INFO_INIT;
    sipws_str text = {NULL, 0};
    void *data = NULL;
    char buf[16];

    CHECK_STATUS(sipws_config_new(NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_from_toml(NULL, 1, &config), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_from_toml("", 0, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_from_file(NULL, &config), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_from_file("x", NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set(NULL, "limits.burst", "1"), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set(config, NULL, "1"), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set(config, "limits.burst", NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set_tls_pem(NULL, some, some), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set_tls_pem(config, nothing, some), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set_tls_pem(config, some, nothing), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set_policy(NULL, NULL, NULL, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set_message_handler(NULL, NULL, NULL, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set_events(NULL, NULL, NULL, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set_event_queue(NULL, 1), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_validate(NULL), SIPWS_E_NULL);
    sipws_config_free(NULL);

    CHECK_STATUS(sipws_server_new(NULL, &server), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_new(config, NULL), SIPWS_E_NULL);
    OK(sipws_server_new(config, &server));
    CHECK_STATUS(sipws_server_start(NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_local_addr(NULL, 0, buf, sizeof buf, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_local_addr(server, 0, NULL, 1, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_reload(NULL, config, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_reload(server, NULL, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_stop(NULL, 0), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_ready(NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_stats(NULL, &stats), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_stats(server, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_metrics(NULL, &text), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_metrics(server, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_next_event(NULL, 0, &event), SIPWS_E_NULL);
    CHECK_STATUS(sipws_server_next_event(server, 0, NULL), SIPWS_E_NULL);
    CHECK(sipws_server_event_fd(NULL) == SIPWS_E_NULL);
    sipws_server_free(NULL);
    sipws_event_free(NULL);
    sipws_str_free(NULL);

    CHECK_STATUS(sipws_flow_send(NULL, 1, some), SIPWS_E_NULL);
    CHECK_STATUS(sipws_flow_send(server, 1, nothing), SIPWS_E_NULL);
    CHECK_STATUS(sipws_flow_close(NULL, 1, 1000, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_flow_info(NULL, 1, &info), SIPWS_E_NULL);
    CHECK_STATUS(sipws_flow_info(server, 1, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_flow_set_user_data(NULL, 1, NULL, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_flow_user_data(NULL, 1, &data), SIPWS_E_NULL);
    CHECK_STATUS(sipws_flow_user_data(server, 1, NULL), SIPWS_E_NULL);
    CHECK_STATUS(sipws_connect(NULL, "ws://127.0.0.1:1/", NULL, &flow), SIPWS_E_NULL);
    CHECK_STATUS(sipws_connect(server, NULL, NULL, &flow), SIPWS_E_NULL);
    CHECK_STATUS(sipws_connect(server, "ws://127.0.0.1:1/", NULL, NULL), SIPWS_E_NULL);

    CHECK(sipws_message_bytes(NULL).len == 0 && sipws_message_method(NULL).len == 0);
    CHECK(sipws_message_request_uri(NULL).len == 0 && sipws_message_body(NULL).len == 0);
    CHECK(sipws_message_status(NULL) == 0);
    CHECK_STATUS(sipws_message_header(NULL, "Via", 0, &some), SIPWS_E_NULL);
    CHECK_STATUS(sipws_message_header_at(NULL, 0, NULL, NULL), SIPWS_E_NULL);
    CHECK(sipws_policy_request_kind(NULL) == 0 && sipws_policy_request_flow(NULL) == 0);
    CHECK(sipws_policy_request_secure(NULL) == 0 && sipws_policy_request_peer(NULL).len == 0);
    CHECK(sipws_policy_request_target(NULL).len == 0 && sipws_policy_request_message(NULL) == NULL);
    CHECK_STATUS(sipws_policy_request_header(NULL, "Origin", 0, &some), SIPWS_E_NULL);
    CHECK_STATUS(sipws_decision_complete(NULL, SIPWS_ACCEPT, 0, NULL), SIPWS_E_NULL);
    CHECK(sipws_event_kind(NULL) == 0 && sipws_event_flow(NULL) == 0 && sipws_event_code(NULL) == 0);
    CHECK(sipws_event_number(NULL) == 0 && sipws_event_text(NULL).len == 0);

    sipws_server_free(server);
    sipws_config_free(config);
}

static void a_handle_of_another_kind_is_told(void)
{
    sipws_config *config = config_of("ws");
    sipws_server *server = NULL;
    OK(sipws_server_new(config, &server));
    CHECK_STATUS(sipws_server_start((sipws_server *)(void *)config), SIPWS_E_HANDLE);
    CHECK_STATUS(sipws_config_set((sipws_config *)(void *)server, "limits.burst", "1"), SIPWS_E_HANDLE);
    CHECK_STATUS(sipws_decision_complete((sipws_decision *)(void *)server, SIPWS_ACCEPT, 0, NULL), SIPWS_E_HANDLE);
    CHECK(sipws_event_kind((const sipws_event *)(const void *)server) == 0);
    CHECK(sipws_message_bytes((const sipws_message *)(const void *)config).len == 0);
    /* What frees nothing leaves it whole. */
    sipws_config_free((sipws_config *)(void *)server);
    sipws_server_free((sipws_server *)(void *)config);
    OK(sipws_config_validate(config));
    OK(sipws_server_start(server));
    sipws_server_free(server);
    sipws_config_free(config);
}

static void what_is_freed_twice_or_used_after_is_told(void)
{
    sipws_config *config = config_of("ws");
    sipws_server *server = NULL;
    sipws_str text = {NULL, 0};
    char why[256];
    OK(sipws_server_new(config, &server));
    OK(sipws_server_start(server));
    OK(sipws_server_metrics(server, &text));
    CHECK(text.len == strlen(text.data) && strstr(text.data, "sipws_connections"));
    sipws_str_free(&text);
    CHECK(text.data == NULL && text.len == 0);
    sipws_str_free(&text);

    sipws_server_free(server);
    CHECK_STATUS(sipws_server_start(server), SIPWS_E_HANDLE);
    CHECK_STATUS(sipws_server_stop(server, 0), SIPWS_E_HANDLE);
    sipws_server_free(server);
    sipws_last_error(why, sizeof why);
    CHECK(strstr(why, "freed"));
    sipws_config_free(config);
    CHECK_STATUS(sipws_config_validate(config), SIPWS_E_HANDLE);
    sipws_config_free(config);
}

static int32_t any_policy(void *user_data, const sipws_policy_request *what, sipws_decision *decision)
{
    (void)user_data, (void)what, (void)decision;
    return SIPWS_ACCEPT;
}

static void any_event(void *user_data, sipws_server *server, const sipws_event *event)
{
    (void)user_data, (void)server, (void)event;
}

static void any_log(void *user_data, int32_t level, const char *target, const char *text)
{
    (void)user_data, (void)level, (void)target, (void)text;
}

static void a_setter_that_fails_leaves_the_user_data_with_its_caller(void)
{
    counter drops = COUNTER_INIT;
    sipws_config *config = config_of("ws");
    sipws_server *server = NULL;
    struct {
        sipws_message_handler known;
        void *unknown;
    } newer;
    memset(&newer, 0, sizeof newer);
    newer.known.size = sizeof newer;
    newer.unknown = &drops;

    CHECK_STATUS(sipws_config_set_policy(NULL, any_policy, &drops, count_drop), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set_events(NULL, any_event, &drops, count_drop), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set_message_handler(NULL, NULL, &drops, count_drop), SIPWS_E_NULL);
    CHECK_STATUS(sipws_config_set_message_handler(config, &newer.known, &drops, count_drop), SIPWS_E_INVALID);
    newer.known.size = 0;
    CHECK_STATUS(sipws_config_set_message_handler(config, &newer.known, &drops, count_drop), SIPWS_E_INVALID);
    CHECK_STATUS(sipws_set_log_callback(any_log, &drops, count_drop, 6), SIPWS_E_INVALID);
    OK(sipws_server_new(config, &server));
    CHECK_STATUS(sipws_flow_set_user_data(server, 1, &drops, count_drop), SIPWS_E_GONE);
    sipws_server_free(server);
    sipws_config_free(config);
    CHECK(count_get(&drops) == 0);
}

static void a_drop_function_is_called_once_after_the_last_use(void)
{
    counter drops = COUNTER_INIT;
    counter replaced = COUNTER_INIT;
    sipws_config *config = config_of("ws");
    sipws_server *one = NULL, *two = NULL;

    OK(sipws_config_set_policy(config, any_policy, &replaced, count_drop));
    OK(sipws_config_set_policy(config, any_policy, &drops, count_drop));
    CHECK(count_get(&replaced) == 1);
    OK(sipws_config_set_events(config, NULL, &replaced, count_drop));
    CHECK(count_get(&replaced) == 2); /* nothing will ever use it */
    OK(sipws_config_set_events(config, any_event, &drops, count_drop));
    OK(sipws_server_new(config, &one));
    OK(sipws_server_new(config, &two));
    OK(sipws_server_start(one));
    OK(sipws_set_log_callback(any_log, &drops, count_drop, SIPWS_LOG_INFO));
    OK(sipws_server_start(two));
    OK(sipws_set_log_callback(NULL, NULL, NULL, SIPWS_LOG_OFF));
    sipws_config_free(config);
    CHECK(count_get(&drops) == 0);
    OK(sipws_server_stop(one, 0));
    sipws_server_free(one);
    CHECK(count_get(&drops) == 0);
    sipws_server_free(two);
    CHECK(count_get(&drops) == 3);
    CHECK(count_get(&replaced) == 2);
}

static void errors_name_the_thing_and_the_mend(void)
{
    sipws_config *config = config_of("ws"), *other = NULL;
    sipws_server *server = NULL;
    char why[512], cut[8];
    size_t len;
    const char *toml = "[limits]\nrequests_per_secnd = 5\n";

    CHECK_STATUS(sipws_config_set(config, "limits.brust", "5"), SIPWS_E_CONFIG);
    len = sipws_last_error(why, sizeof why);
    CHECK(len == strlen(why) && strstr(why, "did you mean burst?"));
    CHECK(sipws_last_error(cut, sizeof cut) == len && strlen(cut) == 7 && strncmp(cut, why, 7) == 0);
    CHECK(sipws_last_error(NULL, 0) == len);

    OK(sipws_config_from_toml(toml, strlen(toml), &other));
    CHECK_STATUS(sipws_config_validate(other), SIPWS_E_CONFIG);
    sipws_last_error(why, sizeof why);
    CHECK(strstr(why, ":2: limits.requests_per_secnd"));
    CHECK_STATUS(sipws_server_new(other, &server), SIPWS_E_CONFIG);
    CHECK(server == NULL);
    sipws_config_free(other);
    other = NULL;
    CHECK_STATUS(sipws_config_from_toml("\xff", 1, &other), SIPWS_E_INVALID);
    CHECK_STATUS(sipws_config_from_file("/nowhere/sipws.toml", &other), SIPWS_E_CONFIG);
    CHECK_STATUS(sipws_config_set_tls_pem(config, bytes("x"), bytes("y")), SIPWS_E_TLS);
    CHECK(other == NULL);
    sipws_config_free(config);
}

static void a_server_is_started_once(void)
{
    sipws_config *config = config_of("ws");
    sipws_server *server = NULL, *second = NULL;
    sipws_stats stats = SIPWS_STATS_INIT;
    char url[128], other[128];
    size_t len = 0;

    OK(sipws_server_new(config, &server));
    CHECK_STATUS(sipws_server_local_addr(server, 0, url, sizeof url, NULL), SIPWS_E_STATE);
    CHECK_STATUS(sipws_server_stats(server, &stats), SIPWS_E_STATE);
    CHECK_STATUS(sipws_server_ready(server), SIPWS_E_STATE);
    OK(sipws_server_stop(server, 0)); /* was never started */
    OK(sipws_server_start(server));
    CHECK_STATUS(sipws_server_start(server), SIPWS_E_STATE);

    OK(sipws_server_local_addr(server, 0, url, sizeof url, &len));
    CHECK(len == strlen(url) && strncmp(url, "ws://127.0.0.1:", 15) == 0 && atoi(url + 15) > 0);
    OK(sipws_server_local_addr(server, 1, other, sizeof other, NULL));
    CHECK(strncmp(other, "tcp://127.0.0.1:", 16) == 0);
    CHECK_STATUS(sipws_server_local_addr(server, 2, other, sizeof other, NULL), SIPWS_E_NOT_FOUND);
    len = 0;
    CHECK_STATUS(sipws_server_local_addr(server, 0, NULL, 0, &len), SIPWS_E_BUFFER);
    CHECK(len == strlen(url));

    /* The address is taken: nothing is started, and it can be tried again. */
    OK(sipws_config_set(config, "listen[0].url", url));
    OK(sipws_server_new(config, &second));
    CHECK_STATUS(sipws_server_start(second), SIPWS_E_BIND);
    OK(sipws_server_stop(server, 0));
    OK(sipws_server_stop(server, 0));
    CHECK_STATUS(sipws_server_start(server), SIPWS_E_STATE);
    CHECK_STATUS(sipws_server_local_addr(server, 0, url, sizeof url, NULL), SIPWS_E_STATE);
    OK(sipws_server_start(second));
    sipws_server_free(second);
    sipws_server_free(server);
    sipws_config_free(config);
}

static void structures_are_written_as_far_as_their_size(void)
{
    sipws_config *config = config_of("ws");
    sipws_server *server = NULL;
    sipws_stats stats = SIPWS_STATS_INIT;
    OK(sipws_server_new(config, &server));
    OK(sipws_server_start(server));
    OK(sipws_server_stats(server, &stats));
    CHECK(stats.size == sizeof stats);
    memset(&stats, 0xee, sizeof stats);
    stats.size = 16; /* of a host that knows no further than uptime_ms */
    OK(sipws_server_stats(server, &stats));
    CHECK(stats.size == 16 && stats.uptime_ms < 60000);
    CHECK(stats.connections_ws == 0xeeeeeeeeeeeeeeeeull);
    stats.size = 3;
    CHECK_STATUS(sipws_server_stats(server, &stats), SIPWS_E_INVALID);
    sipws_server_free(server);
    sipws_config_free(config);
}

int main(void)
{
    int status;
    CHECK(sipws_version_number() == SIPWS_VERSION_NUMBER);
    CHECK(strchr(sipws_version_string(), '.'));
    for (status = -30; status < 5; status++) {
        CHECK(sipws_status_str(status)[0] != 0);
    }
    CHECK(sipws_last_error(NULL, 0) == 0);
    RUN(every_null_argument_is_told);
    RUN(a_handle_of_another_kind_is_told);
    RUN(what_is_freed_twice_or_used_after_is_told);
    RUN(a_setter_that_fails_leaves_the_user_data_with_its_caller);
    RUN(a_drop_function_is_called_once_after_the_last_use);
    RUN(errors_name_the_thing_and_the_mend);
    RUN(a_server_is_started_once);
    RUN(structures_are_written_as_far_as_their_size);
    return 0;
}
