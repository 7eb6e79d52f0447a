#include "stack.h"

#include "locations.h"
#include "pending.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What our Via's branches begin with: the magic of RFC 3261 section 8.1.1.7, and a sign that it is ours. */
#define BRANCH "z9hG4bK-cb-"

static __thread struct text out; /* too large for the stack of somebody else's thread */

static sipws_bytes header(const sipws_message *message, const char *name)
{
    sipws_bytes value = { NULL, 0 };
    sipws_message_header(message, name, 0, &value);
    return value;
}

static int is(sipws_bytes bytes, const char *word)
{
    return bytes.len == strlen(word) && memcmp(bytes.data, word, bytes.len) == 0;
}

static int is_header(sipws_bytes name, const char *full, const char *compact)
{
    return bytes_equal_nocase(name, bytes_of(full)) || bytes_equal_nocase(name, bytes_of(compact));
}

static void begin(void)
{
    out.len = 0;
    out.full = false;
}

/* False where nothing was sent. */
static int send_out(sipws_server *server, sipws_flow_id flow)
{
    sipws_status status = SIPWS_E_BUFFER;
    if (!out.full)
        status = sipws_flow_send(server, flow, (sipws_bytes){ out.data, out.len });
    /* The flow may have gone in the meantime: that is everyday life. */
    if (status != SIPWS_OK && status != SIPWS_E_GONE)
        fprintf(stderr, "flow %llu: %s\n", (unsigned long long)flow, sipws_status_str(status));
    return status == SIPWS_OK;
}

static void add_field(sipws_bytes name, sipws_bytes value)
{
    text_add(&out, name);
    text_add(&out, bytes_of(": "));
    text_add(&out, value);
    text_add(&out, bytes_of("\r\n"));
}

/* Answers a request (RFC 3261 section 8.2.6); `more` are further header fields, each with its CRLF. */
static void answer(sipws_server *server, sipws_flow_id flow, const sipws_message *request, const char *status,
                   const char *more)
{
    sipws_bytes name, value;
    begin();
    text_addf(&out, "SIP/2.0 %s\r\n", status);
    for (size_t i = 0; sipws_message_header_at(request, i, &name, &value) == SIPWS_OK; i++) {
        if (is_header(name, "To", "t") && !has_tag(value)) {
            /* The same for the same request, though nothing is kept of it. */
            add_field(name, value);
            out.len -= 2;
            text_addf(&out, ";tag=cb%llx\r\n", (unsigned long long)flow);
        } else if (is_header(name, "Via", "v") || is_header(name, "From", "f") || is_header(name, "To", "t") ||
                   is_header(name, "Call-ID", "i") || is_header(name, "CSeq", "CSeq")) {
            add_field(name, value);
        }
    }
    text_addf(&out, "%sContent-Length: 0\r\n\r\n", more);
    send_out(server, flow);
}

static void on_register(sipws_server *server, sipws_flow_id flow, const sipws_message *request)
{
    sipws_bytes aor = uri_of(header(request, "To"));
    sipws_bytes contact = header(request, "Contact");
    long expires = number_of(header(request, "Expires"), 600);
    if (contact.len == 0) {
        answer(server, flow, request, "200 OK", "");
        return;
    }
    expires = is(contact, "*") ? 0 : param_number(contact, "expires", expires);
    if (expires > 3600)
        expires = 3600;
    if (expires <= 0) {
        locations_remove(aor, flow);
        printf("unregistered %.*s\n", (int)aor.len, aor.data);
        answer(server, flow, request, "200 OK", "");
        return;
    }
    if (!locations_put(aor, flow, expires)) {
        answer(server, flow, request, "503 Service Unavailable", "Retry-After: 60\r\n");
        return;
    }
    printf("registered %.*s\n", (int)aor.len, aor.data);
    static __thread char more[4096];
    /* Clients look for their own Contact in the answer. */
    int len = snprintf(more, sizeof more, "Contact: %.*s\r\nExpires: %ld\r\n", (int)contact.len, contact.data, expires);
    answer(server, flow, request, "200 OK", len > 0 && (size_t)len < sizeof more ? more : "");
}

/* Passes a request on, with a Via of ours on top (RFC 3261 section 16.6): its answer comes back here. */
static void on_message(sipws_server *server, sipws_flow_id flow, const sipws_message *request)
{
    sipws_bytes uri = sipws_message_request_uri(request), name, value;
    sipws_flow_id to = locations_find(uri_of(uri));
    if (to == 0) {
        answer(server, flow, request, "404 Not Found", "");
        return;
    }
    begin();
    text_add(&out, bytes_of("MESSAGE "));
    text_add(&out, uri);
    text_addf(&out, " SIP/2.0\r\nVia: SIP/2.0/WS c-callback.invalid;branch=" BRANCH "%llx\r\n",
              (unsigned long long)pending_add(flow, to));
    long hops = 70;
    for (size_t i = 0; sipws_message_header_at(request, i, &name, &value) == SIPWS_OK; i++) {
        if (is_header(name, "Max-Forwards", "Max-Forwards"))
            hops = number_of(value, 0);
        else
            add_field(name, value);
    }
    if (hops <= 0) {
        answer(server, flow, request, "483 Too Many Hops", "");
        return;
    }
    text_addf(&out, "Max-Forwards: %ld\r\n\r\n", hops - 1);
    text_add(&out, sipws_message_body(request));
    if (!send_out(server, to))
        answer(server, flow, request, "480 Temporarily Unavailable", "");
}

/* Sends a response back to where its request came from: our Via names it, and is taken off (section 16.7). */
static void on_response(sipws_server *server, sipws_flow_id flow, const sipws_message *response)
{
    sipws_bytes via = header(response, "Via"), name, value;
    const char *sent_by = "SIP/2.0/WS c-callback.invalid;branch=" BRANCH;
    size_t len = strlen(sent_by);
    char number[20] = "";
    if (via.len <= len || via.len - len >= sizeof number || memcmp(via.data, sent_by, len) != 0)
        return;
    memcpy(number, via.data + len, via.len - len);
    uint32_t status = sipws_message_status(response);
    sipws_flow_id to = pending_answered(strtoull(number, NULL, 16), flow, status >= 200);
    if (to == 0)
        return;
    sipws_bytes whole = sipws_message_bytes(response);
    const char *line_end = memchr(whole.data, '\n', whole.len);
    int via_seen = 0;
    begin();
    text_add(&out, (sipws_bytes){ whole.data, (size_t)(line_end + 1 - whole.data) });
    for (size_t i = 0; sipws_message_header_at(response, i, &name, &value) == SIPWS_OK; i++) {
        if (!via_seen && is_header(name, "Via", "v"))
            via_seen = 1;
        else
            add_field(name, value);
    }
    text_add(&out, bytes_of("\r\n"));
    text_add(&out, sipws_message_body(response));
    send_out(server, to);
}

void stack_message(void *user_data, sipws_server *server, sipws_flow_id flow, const sipws_message *message)
{
    (void)user_data;
    sipws_bytes method = sipws_message_method(message);
    if (sipws_message_status(message) != 0)
        on_response(server, flow, message);
    else if (is(method, "REGISTER"))
        on_register(server, flow, message);
    else if (is(method, "MESSAGE"))
        on_message(server, flow, message);
    else if (is(method, "OPTIONS"))
        answer(server, flow, message, "200 OK", "Allow: REGISTER, OPTIONS, MESSAGE\r\n");
    else if (!is(method, "ACK")) /* which is never answered */
        answer(server, flow, message, "405 Method Not Allowed", "Allow: REGISTER, OPTIONS, MESSAGE\r\n");
}

void stack_closed(void *user_data, sipws_server *server, sipws_flow_id flow, uint32_t reason)
{
    (void)user_data, (void)server, (void)reason;
    locations_forget(flow);
}
