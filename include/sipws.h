/*
 * sipws: SIP over WebSocket (RFC 7118) for C and C++ programs.
 *
 * Made of src/ffi by cbindgen: change it there. What holds for all of it (bindings/c/README.md says more):
 *
 * - Functions return a sipws_status: SIPWS_OK, or a negative SIPWS_E_*, and sipws_last_error() has the words. Outputs are
 *   written on success only.
 * - Handles are made and freed by the library. *_free(NULL) does nothing. A pointer that must not be NULL and is:
 *   SIPWS_E_NULL. A handle of the wrong kind, or freed lately: SIPWS_E_HANDLE.
 * - Strings are UTF-8 and NUL-terminated, slices (sipws_bytes) are neither looked at nor terminated beyond their length.
 *   All that is passed in is copied, unless said otherwise.
 * - Callbacks run on threads of the library, several at once, must not block, and must not let an exception out. After
 *   sipws_server_stop() has returned SIPWS_OK none runs.
 *   Inside a callback these say SIPWS_E_WOULD_DEADLOCK: sipws_server_start, _stop, _reload, _next_event.
 * - After a fork(), a server that the parent has started is only to be freed: all else says SIPWS_E_FORKED.
 * - Structures begin with their size and grow at their end; numbers are never used again for something else.
 */

#ifndef SIPWS_H
#define SIPWS_H

#include <stddef.h>
#include <stdint.h>

/* Start values: `sipws_stats stats = SIPWS_STATS_INIT;` */
#define SIPWS_MESSAGE_HANDLER_INIT { sizeof(sipws_message_handler), NULL, NULL, NULL, NULL }
#define SIPWS_CONNECT_OPTIONS_INIT { sizeof(sipws_connect_options), 0, NULL, NULL, 0, NULL, NULL, 0, 0 }
#define SIPWS_FLOW_INFO_INIT { sizeof(sipws_flow_info_t), 0, 0, 0, 0, 0, { 0 } }
#define SIPWS_STATS_INIT { sizeof(sipws_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * The version of this header: major << 16 | minor << 8 | patch. Compare it with sipws_version_number(), the library's.
 */
#define SIPWS_VERSION_NUMBER 256

/**
 * It is done.
 */
#define SIPWS_OK 0

/**
 * An argument that must not be NULL is.
 */
#define SIPWS_E_NULL -1

/**
 * An argument's value is no good: not UTF-8, out of range, an unknown key, a malformed URL.
 */
#define SIPWS_E_INVALID -2

/**
 * The pointer is no such handle: of another kind, or freed.
 */
#define SIPWS_E_HANDLE -3

/**
 * The configuration can't be used; sipws_last_error() names the key and the mend.
 */
#define SIPWS_E_CONFIG -4

/**
 * An address can't be listened on.
 */
#define SIPWS_E_BIND -5

/**
 * A certificate, a key, or TLS itself.
 */
#define SIPWS_E_TLS -6

/**
 * The system refused threads, descriptors or memory.
 */
#define SIPWS_E_SYSTEM -7

/**
 * Not now: the server is not running, runs already, has been stopped, or is not set up for this.
 */
#define SIPWS_E_STATE -8

/**
 * The flow's outbox is full: its peer reads slowly. Nothing was queued; try again later.
 */
#define SIPWS_E_AGAIN -9

/**
 * No open flow has that id: it is closed, or never was.
 */
#define SIPWS_E_GONE -10

/**
 * The decision comes too late: the time is up, or the flow is gone.
 */
#define SIPWS_E_LATE -11

/**
 * The time is up.
 */
#define SIPWS_E_TIMEOUT -12

/**
 * The call waits for callbacks to end, and was made from inside one.
 */
#define SIPWS_E_WOULD_DEADLOCK -13

/**
 * The process was forked off one in which the server was started: its threads are not here.
 */
#define SIPWS_E_FORKED -14

/**
 * The library has a defect: something panicked inside. The handle is poisoned; free it.
 */
#define SIPWS_E_PANIC -15

/**
 * An earlier call on this handle returned SIPWS_E_PANIC; it can only be freed.
 */
#define SIPWS_E_POISONED -16

/**
 * There is no such thing: no header of that name, no address of that number.
 */
#define SIPWS_E_NOT_FOUND -17

/**
 * The buffer is too small; the length that is needed was written.
 */
#define SIPWS_E_BUFFER -18

/**
 * Nothing is logged.
 */
#define SIPWS_LOG_OFF 0

/**
 * What needs somebody to look at it.
 */
#define SIPWS_LOG_ERROR 1

/**
 * What works, but perhaps not as meant.
 */
#define SIPWS_LOG_WARN 2

/**
 * Connections that come and go.
 */
#define SIPWS_LOG_INFO 3

/**
 * Each refusal.
 */
#define SIPWS_LOG_DEBUG 4

/**
 * Each message, with its secrets masked.
 */
#define SIPWS_LOG_TRACE 5

/**
 * Why a flow was closed: by the other side, with a close frame.
 */
#define SIPWS_CLOSED_PEER 1

/**
 * The connection ended without a close frame.
 */
#define SIPWS_CLOSED_LOST 2

/**
 * No pong, nor anything else, in time.
 */
#define SIPWS_CLOSED_SILENT 3

/**
 * The peer did not read what was sent to it.
 */
#define SIPWS_CLOSED_SLOW_READER 4

/**
 * A frame that RFC 6455 does not allow: 1002.
 */
#define SIPWS_CLOSED_PROTOCOL 5

/**
 * A text frame that is not UTF-8: 1007.
 */
#define SIPWS_CLOSED_NOT_UTF8 6

/**
 * It was refused too often: 1008.
 */
#define SIPWS_CLOSED_POLICY 7

/**
 * A message over the limit: 1009.
 */
#define SIPWS_CLOSED_TOO_LONG 8

/**
 * By us: sipws_flow_close(), or the server stops.
 */
#define SIPWS_CLOSED_HERE 9

/**
 * Why a connection was not made: the host has no address.
 */
#define SIPWS_CONNECT_RESOLVE 1

/**
 * No TCP connection: refused, unreachable, reset.
 */
#define SIPWS_CONNECT_TCP 2

/**
 * TLS failed, for another reason than the certificate.
 */
#define SIPWS_CONNECT_TLS 3

/**
 * The server's certificate is not for that host, not trusted, or expired.
 */
#define SIPWS_CONNECT_CERTIFICATE 4

/**
 * The server answered the upgrade with another HTTP status than 101.
 */
#define SIPWS_CONNECT_REFUSED 5

/**
 * The server does not speak the subprotocol "sip".
 */
#define SIPWS_CONNECT_SUBPROTOCOL 6

/**
 * What came back is no WebSocket handshake.
 */
#define SIPWS_CONNECT_PROTOCOL 7

/**
 * No answer in time.
 */
#define SIPWS_CONNECT_TIMEOUT 8

/**
 * The server is stopping, or has as many connections as it may.
 */
#define SIPWS_CONNECT_FULL 9

/**
 * What a policy says: it may pass.
 */
#define SIPWS_ACCEPT 1

/**
 * It is refused.
 */
#define SIPWS_REFUSE 2

/**
 * The decision is the host's: it has called sipws_decision_complete(), or will.
 */
#define SIPWS_DEFER 3

/**
 * What a policy is asked about: a WebSocket handshake that passed the library's own checks.
 */
#define SIPWS_POLICY_HANDSHAKE 1

/**
 * A request outside a dialog (no tag in To), other than ACK and CANCEL, that passed the guard.
 */
#define SIPWS_POLICY_REQUEST 2

/**
 * A flow is there.
 */
#define SIPWS_EVENT_OPENED 1

/**
 * A flow is gone.
 */
#define SIPWS_EVENT_CLOSED 2

/**
 * A connection that sipws_connect() was to make was not made.
 */
#define SIPWS_EVENT_CONNECT_FAILED 3

/**
 * The bridge saw a client's REGISTER answered 2xx with a binding for it.
 */
#define SIPWS_EVENT_REGISTERED 4

/**
 * The bridge saw a client's REGISTER answered 2xx without a binding for it any more.
 */
#define SIPWS_EVENT_UNREGISTERED 5

/**
 * The bridge can reach an upstream.
 */
#define SIPWS_EVENT_UPSTREAM_UP 6

/**
 * The bridge can't reach an upstream any more.
 */
#define SIPWS_EVENT_UPSTREAM_DOWN 7

/**
 * The queue was full and events are missing here: look at what you have with sipws_flow_info().
 */
#define SIPWS_EVENT_OVERFLOW 8

/**
 * Whether a wss server has to prove who it is: as client.verify says, which is yes unless it is set to false.
 */
#define SIPWS_VERIFY_DEFAULT 0

/**
 * It has to.
 */
#define SIPWS_VERIFY_PEER 1

/**
 * Any certificate will do: for tests.
 */
#define SIPWS_VERIFY_NONE 2

/**
 * A configuration. One owner, who uses it from one thread at a time.
 */
typedef struct sipws_config sipws_config;

/**
 * A decision that the host owes. Thread-safe.
 */
typedef struct sipws_decision sipws_decision;

/**
 * Something that happened.
 */
typedef struct sipws_event sipws_event;

/**
 * A SIP message, lent to a callback: valid until that returns.
 */
typedef struct sipws_message sipws_message;

/**
 * What a policy is asked about, lent to it: valid until it returns.
 */
typedef struct sipws_policy_request sipws_policy_request;

/**
 * A server. Thread-safe, but for sipws_server_free(), which nothing may run beside or come after.
 */
typedef struct sipws_server sipws_server;

/**
 * What most functions return: SIPWS_OK, or one of SIPWS_E_*, all of which are negative.
 */
typedef int32_t sipws_status;

/**
 * Gets one line of the log: its level (SIPWS_LOG_ERROR to SIPWS_LOG_TRACE), the part of the library that it comes
 * from, and the text, without a line feed. Both strings are valid until it returns.
 */
typedef void (*sipws_log_fn)(void *user_data, int32_t level, const char *target, const char *text);

/**
 * Called once, when the library lets go of a `user_data`, after its last use, on any thread, perhaps inside the call
 * that ended its use. Counts as a callback.
 */
typedef void (*sipws_drop_fn)(void *user_data);

/**
 * Text that the library allocated: sipws_str_free() it. `data` is NUL-terminated, which `len` does not count.
 */
typedef struct sipws_str {
    /**
     * The first byte.
     */
    char *data;
    /**
     * How many.
     */
    size_t len;
} sipws_str;

/**
 * Bytes that belong to somebody else. `data` is not NUL-terminated unless said so. Where `len` is 0, `data` is
 * ignored.
 */
typedef struct sipws_bytes {
    /**
     * The first byte.
     */
    const char *data;
    /**
     * How many.
     */
    size_t len;
} sipws_bytes;

/**
 * Decides who may connect and what may pass. Called on the library's threads, several at once; must not block.
 *
 * Returns SIPWS_ACCEPT, SIPWS_REFUSE (403), or SIPWS_DEFER: then `decision` is the host's, which calls
 * sipws_decision_complete() exactly once, from any thread, now (for another status) or later. What is not completed
 * within timeouts.policy is refused with 503. Any other value: 503. `what` is valid until it returns; without
 * SIPWS_DEFER, `decision` too.
 */
typedef int32_t (*sipws_policy_fn)(void *user_data,
                                   const struct sipws_policy_request *what,
                                   struct sipws_decision *decision);

/**
 * A flow: one WebSocket connection, accepted or made. Never 0, never used again, not even after a restart.
 */
typedef uint64_t sipws_flow_id;

/**
 * A flow is there, accepted or made: sipws_flow_send() works from here on. Its messages come later.
 */
typedef void (*sipws_opened_fn)(void *user_data, struct sipws_server *server, sipws_flow_id flow);

/**
 * A SIP message that passed the guard: it has the mandatory headers, and its sender is within its limits. `message` is
 * valid until this returns.
 */
typedef void (*sipws_message_fn)(void *user_data,
                                 struct sipws_server *server,
                                 sipws_flow_id flow,
                                 const struct sipws_message *message);

/**
 * A flow that was opened is gone: exactly one for each, after its last message. `reason` is one of SIPWS_CLOSED_*. Its
 * user data is there until this returns.
 */
typedef void (*sipws_closed_fn)(void *user_data,
                                struct sipws_server *server,
                                sipws_flow_id flow,
                                uint32_t reason);

/**
 * The connection that sipws_connect() promised under this id was not made; it may come before that has returned.
 * `error` is one of SIPWS_CONNECT_*, `http_status` the server's with SIPWS_CONNECT_REFUSED, else 0; `text` says it in
 * words, and is NUL-terminated.
 */
typedef void (*sipws_connect_failed_fn)(void *user_data,
                                        struct sipws_server *server,
                                        sipws_flow_id flow,
                                        uint32_t error,
                                        uint32_t http_status,
                                        const char *text);

/**
 * Where a host's messages go: see sipws_config_set_message_handler(). Start it with SIPWS_MESSAGE_HANDLER_INIT. Each
 * function may be NULL. They are called on the library's threads, for different flows at once, for one flow in order;
 * they must not block.
 */
typedef struct sipws_message_handler {
    /**
     * sizeof(sipws_message_handler).
     */
    uint32_t size;
    /**
     * A flow is there.
     */
    sipws_opened_fn opened;
    /**
     * A message came.
     */
    sipws_message_fn message;
    /**
     * A flow is gone.
     */
    sipws_closed_fn closed;
    /**
     * A connection was not made.
     */
    sipws_connect_failed_fn connect_failed;
} sipws_message_handler;

/**
 * Gets the events: see sipws_config_set_events(). Called on the library's threads, several at once; for one flow in
 * order; must not block. `event` is valid until it returns; it is not to be freed.
 */
typedef void (*sipws_event_fn)(void *user_data, struct sipws_server *server, const struct sipws_event *event);

/**
 * The figures of a server; see sipws_server_stats(). Start it with SIPWS_STATS_INIT. Gauges say what is now, the
 * others count from the start.
 */
typedef struct sipws_stats {
    /**
     * sizeof(sipws_stats); afterwards, how much of it was written.
     */
    uint32_t size;
    /**
     * 1 where sipws_server_ready() would say SIPWS_OK.
     */
    uint32_t ready;
    /**
     * How long the server has been running, in milliseconds.
     */
    uint64_t uptime_ms;
    /**
     * Gauge: open flows over ws.
     */
    uint64_t connections_ws;
    /**
     * Gauge: open flows over wss.
     */
    uint64_t connections_wss;
    /**
     * Gauge: of both, those that sipws_connect() made.
     */
    uint64_t connections_outgoing;
    /**
     * Gauge: handshakes under way.
     */
    uint64_t handshaking;
    /**
     * Handshakes that ended, however.
     */
    uint64_t handshakes;
    /**
     * Flows that ended.
     */
    uint64_t closed;
    /**
     * SIP messages that arrived on flows.
     */
    uint64_t messages_from_flows;
    /**
     * SIP messages queued to flows.
     */
    uint64_t messages_to_flows;
    /**
     * SIP messages that arrived from SIP servers (bridge).
     */
    uint64_t messages_from_servers;
    /**
     * SIP messages queued to SIP servers (bridge).
     */
    uint64_t messages_to_servers;
    /**
     * Messages refused or dropped.
     */
    uint64_t refusals;
    /**
     * Gauge: bytes that wait in outboxes because peers read slowly.
     */
    uint64_t outbox_bytes;
    /**
     * Gauge: requests that the bridge keeps state for.
     */
    uint64_t requests_in_flight;
    /**
     * Events that were dropped because the queue was full.
     */
    uint64_t events_lost;
} sipws_stats;

/**
 * What a flow is; see sipws_flow_info(). Start it with SIPWS_FLOW_INFO_INIT.
 */
typedef struct sipws_flow_info_t {
    /**
     * sizeof(sipws_flow_info_t).
     */
    uint32_t size;
    /**
     * 1 where it runs over TLS (wss), else 0.
     */
    uint32_t secure;
    /**
     * 1 where sipws_connect() made it, 0 where it was accepted.
     */
    uint32_t outgoing;
    /**
     * How many bytes of `peer` are used, without the NUL.
     */
    uint32_t peer_len;
    /**
     * How long it has been open, in milliseconds.
     */
    uint64_t age_ms;
    /**
     * Bytes that wait in its outbox because its peer reads slowly.
     */
    uint64_t waiting_bytes;
    /**
     * The peer's address and port, "192.0.2.1:40000" or "[2001:db8::1]:40000", NUL-terminated.
     */
    char peer[64];
} sipws_flow_info_t;

/**
 * One HTTP header of a handshake.
 */
typedef struct sipws_header {
    /**
     * Its name.
     */
    const char *name;
    /**
     * Its value.
     */
    const char *value;
} sipws_header;

/**
 * How to connect: see sipws_connect(). Start it with SIPWS_CONNECT_OPTIONS_INIT. NULL and 0 mean what the
 * configuration's [client] says.
 */
typedef struct sipws_connect_options {
    /**
     * sizeof(sipws_connect_options).
     */
    uint32_t size;
    /**
     * For all of it, to the end of the upgrade; milliseconds.
     */
    uint32_t deadline_ms;
    /**
     * The Origin to say.
     */
    const char *origin;
    /**
     * Further headers of the handshake: Authorization, Cookie.
     */
    const struct sipws_header *headers;
    /**
     * How many.
     */
    size_t header_count;
    /**
     * wss: a PEM file of further certificates to trust, beside the system's.
     */
    const char *ca_file;
    /**
     * The name of the server, for Host, SNI, and the certificate's check; the URL's host is then an IP address.
     */
    const char *server_name;
    /**
     * wss: one of SIPWS_VERIFY_*.
     */
    uint32_t verify;
    /**
     * 0.
     */
    uint32_t reserved;
} sipws_connect_options;

#ifdef __cplusplus
extern "C" {
#endif /* __cplusplus */

/**
 * The version of the library that runs: major << 16 | minor << 8 | patch. Any thread, any time.
 */
uint32_t sipws_version_number(void);

/**
 * The version of the library that runs, "0.1.0". Static. Any thread, any time.
 */
const char *sipws_version_string(void);

/**
 * What a status means, in a few words. Static, never NULL. Any thread, any time.
 */
const char *sipws_status_str(sipws_status status);

/**
 * What this thread's last failed call has to say: it names the thing, and the mend. Copied to `buf`, cut to `len` with
 * its NUL; returns how long it is in full, without the NUL, so that 0 means nothing has failed. `buf` may be NULL
 * where `len` is 0. A call that succeeds leaves it as it is.
 */
size_t sipws_last_error(char *buf,
                        size_t len);

/**
 * Has the log go to `log`: lines up to `level` (SIPWS_LOG_*) of servers that are started from here on, and of the
 * calls that are made on them. NULL or SIPWS_LOG_OFF: no log, which is so from the beginning. Servers that run keep
 * what they have. The library has no other log, and touches no log of the process.
 *
 * `log` is called on the library's threads and on those that call it, several at once; it must not block, nor call a
 * function of sipws. `drop` (may be NULL) is called once with `user_data` when the log has been replaced and the last
 * server that used it is freed.
 *
 * Any thread, any time. Errors: SIPWS_E_INVALID for a level that there is not; `user_data` then stays the caller's.
 */
sipws_status sipws_set_log_callback(sipws_log_fn log,
                                    void *user_data,
                                    sipws_drop_fn drop,
                                    int32_t level);

/**
 * Frees text that the library gave, and sets it to NULL and 0. NULL, and text that has been freed like this, are
 * allowed. Any thread.
 */
void sipws_str_free(struct sipws_str *text);

/**
 * Makes a configuration of defaults: ws://127.0.0.1:8080, wss://127.0.0.1:8443 with a self-signed certificate, no
 * upstream. Free it with sipws_config_free(). Starts no thread, opens nothing.
 *
 * All sipws_config_* functions: a configuration has one owner, who uses it from one thread at a time; any thread will
 * do, and different configurations know nothing of each other. Allowed in callbacks.
 */
sipws_status sipws_config_new(struct sipws_config **out);

/**
 * Makes a configuration of a TOML text of `len` bytes, with the keys of the configuration file. Relative paths in it
 * start at the working directory. The environment is looked at only where a secret says { env = "NAME" }.
 *
 * Errors: SIPWS_E_CONFIG, and sipws_last_error() has all that is wrong, a line each; SIPWS_E_INVALID where it is not
 * UTF-8; SIPWS_E_NULL.
 */
sipws_status sipws_config_from_toml(const char *text,
                                    size_t len,
                                    struct sipws_config **out);

/**
 * Makes a configuration of a TOML file. Relative paths in it start at the file's folder.
 *
 * Errors: as for sipws_config_from_toml().
 */
sipws_status sipws_config_from_file(const char *path, struct sipws_config **out);

/**
 * Sets one key: "limits.requests_per_second" to "50", "listen[0].url" to "ws://127.0.0.1:0/", "upstream[0].uri" to
 * "sip:pbx.example.com;transport=tcp". The value is read as TOML if that gives the right type, else as plain text. The
 * next free number of a list adds to it; the first element that is set takes the place of the list's defaults.
 *
 * Errors: SIPWS_E_CONFIG for an unknown key, or a value of the wrong type; nothing is changed then. What keys demand
 * of each other is checked by sipws_config_validate(). SIPWS_E_NULL, SIPWS_E_INVALID (not UTF-8), SIPWS_E_HANDLE.
 */
sipws_status sipws_config_set(struct sipws_config *config,
                              const char *key,
                              const char *value);

/**
 * Sets the certificate of wss:// listeners from memory, instead of tls.certificate and tls.key: PEM, the server's own
 * certificate first, and its key. Both are copied.
 *
 * Errors: SIPWS_E_TLS where they can't be read or don't belong together; SIPWS_E_NULL, SIPWS_E_HANDLE.
 */
sipws_status sipws_config_set_tls_pem(struct sipws_config *config,
                                      struct sipws_bytes chain,
                                      struct sipws_bytes key);

/**
 * Has `policy` decide who may connect and what may pass, after the library's own checks; NULL: nobody any more. `drop`
 * (may be NULL) is called once with `user_data`, after the last use: when it has been replaced or the configuration
 * freed, and every server that was made with it.
 *
 * Errors: SIPWS_E_NULL, SIPWS_E_HANDLE; `user_data` then stays the caller's.
 */
sipws_status sipws_config_set_policy(struct sipws_config *config,
                                     sipws_policy_fn policy,
                                     void *user_data,
                                     sipws_drop_fn drop);

/**
 * Has all SIP messages go to the host, and none through the bridge: no upstreams, no SIP listeners. `handler` is
 * copied; NULL: the bridge again. `drop` as for sipws_config_set_policy().
 *
 * Errors: SIPWS_E_INVALID for a size that is none, or functions of a newer library; SIPWS_E_NULL (config),
 * SIPWS_E_HANDLE; `user_data` then stays the caller's.
 */
sipws_status sipws_config_set_message_handler(struct sipws_config *config,
                                              const struct sipws_message_handler *handler,
                                              void *user_data,
                                              sipws_drop_fn drop);

/**
 * Has `events` told what happens; NULL: nobody, events are queued for sipws_server_next_event() again. `drop` as for
 * sipws_config_set_policy().
 *
 * Errors: SIPWS_E_NULL (config), SIPWS_E_HANDLE; `user_data` then stays the caller's.
 */
sipws_status sipws_config_set_events(struct sipws_config *config,
                                     sipws_event_fn events,
                                     void *user_data,
                                     sipws_drop_fn drop);

/**
 * How many events may wait for sipws_server_next_event(): 1024, unless this says otherwise. The oldest are kept; a gap
 * is marked by an event SIPWS_EVENT_OVERFLOW. 0: events are not kept at all.
 *
 * Errors: SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_INVALID for more than 1048576.
 */
sipws_status sipws_config_set_event_queue(struct sipws_config *config,
                                          uint32_t capacity);

/**
 * Checks it as sipws_server_new() does: ranges, and keys that need each other. Opens nothing.
 *
 * Errors: SIPWS_E_CONFIG, and sipws_last_error() has all that is wrong, a line each; SIPWS_E_NULL, SIPWS_E_HANDLE.
 */
sipws_status sipws_config_validate(const struct sipws_config *config);

/**
 * Frees it. Servers that were made of it keep what they need. NULL is allowed. Drop functions are called here, unless
 * a server still uses what they belong to.
 */
void sipws_config_free(struct sipws_config *config);

/**
 * Makes a server of a configuration, which it copies. Starts no thread, opens nothing, touches no file. Free it with
 * sipws_server_free(). A daemon forks before sipws_server_start(), not after.
 *
 * Any thread; allowed in callbacks. Errors: SIPWS_E_CONFIG as for sipws_config_validate(); SIPWS_E_NULL,
 * SIPWS_E_HANDLE.
 */
sipws_status sipws_server_new(const struct sipws_config *config,
                              struct sipws_server **out);

/**
 * Binds every listener and starts the threads, which are named sipws-0 and so on (runtime.threads; 0: one a core), and
 * have the signal mask of the thread that calls this. Callbacks may begin before it returns.
 *
 * Thread-safe; not in callbacks. Errors: SIPWS_E_BIND, SIPWS_E_TLS, SIPWS_E_CONFIG, SIPWS_E_SYSTEM: nothing runs then,
 * and it can be tried again; SIPWS_E_STATE where it runs or has been stopped: a server is started once;
 * SIPWS_E_WOULD_DEADLOCK, SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
 */
sipws_status sipws_server_start(struct sipws_server *server);

/**
 * Where the server listens, with the real ports: the index-th URL, WebSocket listeners first ("ws://127.0.0.1:8080/"),
 * then SIP ones ("tcp://127.0.0.1:5062"), each in the order of the configuration. Copied with a NUL to `buf` of `len`
 * bytes. `out_len` (may be NULL) is how long it is without the NUL, written on SIPWS_OK and SIPWS_E_BUFFER.
 *
 * Thread-safe; allowed in callbacks. Errors: SIPWS_E_NOT_FOUND behind the last; SIPWS_E_BUFFER where it does not fit,
 * nothing is copied then; SIPWS_E_STATE where it does not run; SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
 */
sipws_status sipws_server_local_addr(const struct sipws_server *server,
                                     size_t index,
                                     char *buf,
                                     size_t len,
                                     size_t *out_len);

/**
 * Takes over what can be while running: upstreams, origins and paths of listeners; certificates' files are read again.
 * Callbacks stay those that the server was made with. `needs_restart` (may be NULL) gets the keys that differ but are
 * not taken over, a line each; sipws_str_free() it.
 *
 * Thread-safe; not in callbacks. Errors: SIPWS_E_CONFIG, SIPWS_E_TLS: nothing is changed then; SIPWS_E_STATE where it
 * does not run; SIPWS_E_WOULD_DEADLOCK, SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
 */
sipws_status sipws_server_reload(struct sipws_server *server,
                                 const struct sipws_config *config,
                                 struct sipws_str *needs_restart);

/**
 * Stops: no new connections, the open ones closed with 1001 one after the other within three quarters of `grace_ms`,
 * and at its end those that are left. Blocks for up to that time, and up to five seconds more for callbacks to return.
 * After SIPWS_OK no callback runs, and none will. What has been queued can still be fetched by
 * sipws_server_next_event().
 *
 * A server that was never started is left as it is; one that has been stopped is stopped: both SIPWS_OK. A stopped
 * server is not started again: make a new one.
 *
 * Thread-safe; not in callbacks. Errors: SIPWS_E_TIMEOUT where a callback has not returned: everything is closed, but
 * call it again to wait on; SIPWS_E_STATE for a server that belongs to a sipws_pjsip; SIPWS_E_WOULD_DEADLOCK,
 * SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
 */
sipws_status sipws_server_stop(struct sipws_server *server,
                               uint32_t grace_ms);

/**
 * Stops it without grace, if it runs, and frees it. Drop functions are called that nobody else uses. NULL is allowed.
 * No other call on the server may be running, and none may come, but in its own last callbacks.
 *
 * Inside a callback it returns at once, and the rest happens when that has returned, on a thread of its own. After a
 * fork it leaks what there is, on purpose: its threads are not in this process. It leaks, too, where a callback does
 * not return for five seconds.
 */
void sipws_server_free(struct sipws_server *server);

/**
 * Whether new clients should be sent here: SIPWS_OK, or SIPWS_E_STATE and sipws_last_error() says why not (not
 * started, stopping, no upstream can be reached).
 *
 * Thread-safe; allowed in callbacks. Errors: besides, SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
 */
sipws_status sipws_server_ready(const struct sipws_server *server);

/**
 * Fills in the figures. `stats->size` says how much of it the caller knows; only that is written, and `size` set to
 * how much that was.
 *
 * Thread-safe; allowed in callbacks. Errors: SIPWS_E_STATE where it does not run; SIPWS_E_NULL, SIPWS_E_INVALID
 * (size), SIPWS_E_HANDLE, SIPWS_E_FORKED.
 */
sipws_status sipws_server_stats(const struct sipws_server *server,
                                struct sipws_stats *stats);

/**
 * All figures as text for Prometheus (OpenMetrics). sipws_str_free() it.
 *
 * Thread-safe; allowed in callbacks. Errors: SIPWS_E_STATE where it does not run; SIPWS_E_NULL, SIPWS_E_HANDLE,
 * SIPWS_E_FORKED.
 */
sipws_status sipws_server_metrics(const struct sipws_server *server,
                                  struct sipws_str *out);

/**
 * Fetches the oldest event, and waits for one for up to `timeout_ms` (0: not at all). sipws_event_free() it.
 *
 * Thread-safe; not in callbacks. Errors: SIPWS_E_TIMEOUT where none came; SIPWS_E_STATE where the server has stopped
 * and nothing is left, or events go to sipws_config_set_events(), or are not kept; SIPWS_E_WOULD_DEADLOCK,
 * SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
 */
sipws_status sipws_server_next_event(struct sipws_server *server,
                                     uint32_t timeout_ms,
                                     struct sipws_event **out);

/**
 * A descriptor for poll(), select() or epoll: readable as long as sipws_server_next_event() with timeout 0 would not
 * say SIPWS_E_TIMEOUT. Not to be read, written or closed; it is there until the server is freed. There from
 * sipws_server_new() on, the same at each call. Negative: a status, as for sipws_server_next_event().
 *
 * Thread-safe; allowed in callbacks.
 */
int sipws_server_event_fd(const struct sipws_server *server);

/**
 * Sends one SIP message, or a keep-alive (CRLF CRLF), as one WebSocket message. It is copied, and written at once as
 * far as the socket takes it. Messages of one thread on one flow leave in order.
 *
 * Thread-safe; allowed in callbacks; does not block. Errors: SIPWS_E_AGAIN where the outbox is full
 * (limits.outbox_bytes), nothing is queued then; SIPWS_E_GONE where the flow is closed; SIPWS_E_INVALID for an empty
 * message, or one longer than the outbox ever is; SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
 */
sipws_status sipws_flow_send(struct sipws_server *server,
                             sipws_flow_id flow,
                             struct sipws_bytes message);

/**
 * Closes a flow with a WebSocket close code (RFC 6455 section 7.4: 1000 is a normal end, 1008 a policy, 4000 to 4999
 * one's own) and a reason of up to 123 bytes (NULL: none). What was sent before still leaves. The callbacks of its end
 * follow.
 *
 * Thread-safe; allowed in callbacks; does not block. Errors: SIPWS_E_GONE where it is closed already; SIPWS_E_INVALID
 * for a code that may not be sent or a reason that is too long; SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
 */
sipws_status sipws_flow_close(struct sipws_server *server,
                              sipws_flow_id flow,
                              uint16_t code,
                              const char *reason);

/**
 * Fills in what a flow is. `info->size` says how much of it the caller knows; only that is written.
 *
 * Thread-safe; allowed in callbacks. Errors: SIPWS_E_GONE where the flow is closed; SIPWS_E_NULL, SIPWS_E_INVALID
 * (size), SIPWS_E_HANDLE, SIPWS_E_FORKED.
 */
sipws_status sipws_flow_info(const struct sipws_server *server,
                             sipws_flow_id flow,
                             struct sipws_flow_info_t *info);

/**
 * Attaches something of the host's to a flow, in place of what was there, whose drop function is called. `drop` (may
 * be NULL) is called once with `user_data`: when it is replaced, or after the flow's last callback, or when the server
 * is freed.
 *
 * Thread-safe; allowed in callbacks. Errors: SIPWS_E_GONE where the flow is closed; SIPWS_E_NULL (server),
 * SIPWS_E_HANDLE, SIPWS_E_FORKED; `user_data` then stays the caller's.
 */
sipws_status sipws_flow_set_user_data(struct sipws_server *server,
                                      sipws_flow_id flow,
                                      void *user_data,
                                      sipws_drop_fn drop);

/**
 * What sipws_flow_set_user_data() has attached; NULL where there is nothing. Valid until the flow's last callback has
 * returned, or it is replaced.
 *
 * Thread-safe; allowed in callbacks. Errors: SIPWS_E_GONE where the flow is closed; SIPWS_E_NULL, SIPWS_E_HANDLE,
 * SIPWS_E_FORKED.
 */
sipws_status sipws_flow_user_data(const struct sipws_server *server,
                                  sipws_flow_id flow,
                                  void **out);

/**
 * Makes a WebSocket connection of our own: "ws://host:port/path?query" or "wss://...", subprotocol "sip". Returns at
 * once; `out` is the id that its flow will have. Then comes exactly one of: `opened` with that id, and it is a flow
 * like any other; or `connect_failed` and the event of that name. Either may come before this returns.
 *
 * `options` may be NULL. What neither says (path, Origin, headers, trust, deadline) is as in the configuration's
 * [client] and timeouts.connect. For servers with a message handler; a bridge makes no connections: SIPWS_E_STATE.
 *
 * Thread-safe; allowed in callbacks; does not block, but for reading the certificates to trust. Errors:
 * SIPWS_E_INVALID for the URL or an option; SIPWS_E_TLS for `ca_file`; SIPWS_E_STATE where the server does not run;
 * SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
 */
sipws_status sipws_connect(struct sipws_server *server,
                           const char *url,
                           const struct sipws_connect_options *options,
                           sipws_flow_id *out);

/**
 * The whole message as it came. Empty for NULL.
 *
 * All sipws_message_* functions: only inside the callback that the message was lent to, on its thread; what they give
 * points into the message, is not NUL-terminated, and is valid as long as that.
 */
struct sipws_bytes sipws_message_bytes(const struct sipws_message *message);

/**
 * A request's method; of a response, the method in CSeq.
 */
struct sipws_bytes sipws_message_method(const struct sipws_message *message);

/**
 * A response's status code; 0: it is a request.
 */
uint32_t sipws_message_status(const struct sipws_message *message);

/**
 * A request's Request-URI; empty for a response.
 */
struct sipws_bytes sipws_message_request_uri(const struct sipws_message *message);

/**
 * The body; empty where there is none.
 */
struct sipws_bytes sipws_message_body(const struct sipws_message *message);

/**
 * The value of the header field of that name (long or compact, in any case), the index-th from the top, 0 being the
 * first. Without the white space around it; several values in one field are not taken apart, and folds are left as
 * they are.
 *
 * Errors: SIPWS_E_NOT_FOUND where there are not so many; SIPWS_E_NULL, SIPWS_E_HANDLE.
 */
sipws_status sipws_message_header(const struct sipws_message *message,
                                  const char *name,
                                  size_t index,
                                  struct sipws_bytes *out);

/**
 * Name (as it stands there) and value of the index-th header field, whatever its name, 0 being the first. `name` and
 * `value` may each be NULL.
 *
 * Errors: SIPWS_E_NOT_FOUND behind the last; SIPWS_E_NULL, SIPWS_E_HANDLE.
 */
sipws_status sipws_message_header_at(const struct sipws_message *message,
                                     size_t index,
                                     struct sipws_bytes *name,
                                     struct sipws_bytes *value);

/**
 * SIPWS_POLICY_HANDSHAKE or SIPWS_POLICY_REQUEST. A newer library may ask about more: answer SIPWS_ACCEPT or
 * SIPWS_REFUSE, as is your way with what you don't know. 0 for NULL.
 *
 * All sipws_policy_request_* functions: only inside the policy's callback, on its thread; what they give is valid as
 * long as that, and not NUL-terminated.
 */
uint32_t sipws_policy_request_kind(const struct sipws_policy_request *what);

/**
 * The flow that the request came on; 0 for a handshake, which has none yet.
 */
sipws_flow_id sipws_policy_request_flow(const struct sipws_policy_request *what);

/**
 * The client's address and port.
 */
struct sipws_bytes sipws_policy_request_peer(const struct sipws_policy_request *what);

/**
 * 1 where it came over TLS (wss), else 0.
 */
uint32_t sipws_policy_request_secure(const struct sipws_policy_request *what);

/**
 * A handshake's request target, path and query: "/ws?token=..."; empty for a SIP request.
 */
struct sipws_bytes sipws_policy_request_target(const struct sipws_policy_request *what);

/**
 * The value of the HTTP header (handshake) or SIP header field (request) of that name, the index-th, 0 being the
 * first; see sipws_message_header().
 *
 * Errors: SIPWS_E_NOT_FOUND where there are not so many; SIPWS_E_NULL, SIPWS_E_HANDLE.
 */
sipws_status sipws_policy_request_header(const struct sipws_policy_request *what,
                                         const char *name,
                                         size_t index,
                                         struct sipws_bytes *out);

/**
 * The SIP request; NULL for a handshake.
 */
const struct sipws_message *sipws_policy_request_message(const struct sipws_policy_request *what);

/**
 * Makes a decision that was deferred, and frees it, whatever it returns: exactly once for each. `verdict` is
 * SIPWS_ACCEPT or SIPWS_REFUSE; with the latter `code` is the status, HTTP (400 to 599) for a handshake, SIP (300 to
 * 699) for a request (0: 403), and `reason` its phrase (NULL: the usual one). Both are ignored with SIPWS_ACCEPT.
 *
 * Any thread; allowed in callbacks, even in the one that is asked: it then returns SIPWS_DEFER.
 *
 * Errors: SIPWS_E_LATE where the time is up, the flow gone, or the server stopped; SIPWS_E_INVALID for another verdict
 * or code (it is then refused with 503); SIPWS_E_NULL; SIPWS_E_HANDLE, among others when it was completed before.
 */
sipws_status sipws_decision_complete(struct sipws_decision *decision,
                                     int32_t verdict,
                                     uint16_t code,
                                     const char *reason);

/**
 * What happened: one of SIPWS_EVENT_*. A newer library may have kinds that a host does not know: ignore them. 0 for
 * NULL.
 */
uint32_t sipws_event_kind(const struct sipws_event *event);

/**
 * The flow that it happened to; 0 where it concerns none.
 */
sipws_flow_id sipws_event_flow(const struct sipws_event *event);

/**
 * CLOSED: one of SIPWS_CLOSED_*; CONNECT_FAILED: one of SIPWS_CONNECT_*; else 0.
 */
uint32_t sipws_event_code(const struct sipws_event *event);

/**
 * REGISTERED: seconds until the binding ends; CONNECT_FAILED: the server's HTTP status, or 0; OVERFLOW: how many
 * events are missing; else 0.
 */
uint64_t sipws_event_number(const struct sipws_event *event);

/**
 * OPENED: the peer's address and port; CLOSED and CONNECT_FAILED: why, in words; REGISTERED and UNREGISTERED: the
 * address of record; UPSTREAM_*: the upstream's URI. It belongs to the event, and is valid as long as that; not
 * NUL-terminated.
 */
struct sipws_bytes sipws_event_text(const struct sipws_event *event);

/**
 * Frees an event that sipws_server_next_event() gave. NULL is allowed. Not for those that are lent to a
 * sipws_event_fn.
 *
 * Any thread; allowed in callbacks.
 */
void sipws_event_free(struct sipws_event *event);

#ifdef __cplusplus
} /* extern "C" */
#endif /* __cplusplus */

#endif  /* SIPWS_H */
