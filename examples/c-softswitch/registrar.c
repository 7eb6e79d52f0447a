#include "softswitch.h"

#include <stdio.h>
#include <string.h>

/* In memory, and without passwords: whoever reaches this may register as anybody. */
#define BINDINGS_MAX 1024
#define EXPIRES_USUAL 600
#define EXPIRES_MAX 3600

struct binding {
    bool used;
    char user[64];
    char uri[512];
    pj_int64_t until; /* seconds, PJLIB's monotonic clock */
    /* The connection that it came on; over UDP nobody says that it is gone. */
    pjsip_transport_key from;
};

static struct binding bindings[BINDINGS_MAX];

static pj_int64_t now(void)
{
    pj_time_val tv;
    pj_gettickcount(&tv);
    return tv.sec;
}

static bool live(struct binding *b)
{
    if (b->used && b->until <= now()) {
        b->used = false;
        printf("expired %s %s\n", b->user, b->uri);
    }
    return b->used;
}

static bool is_user(const struct binding *b, const pj_str_t *user)
{
    return pj_strcmp2(user, b->user) == 0;
}

static void forget(struct binding *b)
{
    b->used = false;
    printf("unregistered %s %s\n", b->user, b->uri);
}

/* False where there is no room. */
static bool bind_contact(const pj_str_t *user, const char *uri, int expires, const pjsip_rx_data *rdata)
{
    struct binding *to = NULL;
    int of_user = 0;
    for (struct binding *b = bindings; b < bindings + BINDINGS_MAX; b++) {
        if (!live(b)) {
            if (to == NULL)
                to = b;
        } else if (is_user(b, user)) {
            of_user++;
            if (strcmp(b->uri, uri) == 0) {
                to = b;
                of_user = 0;
                break;
            }
        }
    }
    if (expires == 0) {
        if (to != NULL && to->used)
            forget(to);
        return true;
    }
    if (to == NULL || of_user >= CONTACTS_MAX || user->slen >= (pj_ssize_t)sizeof to->user)
        return false;
    if (!to->used)
        printf("registered %.*s %s\n", STR(*user), uri);
    to->used = true;
    snprintf(to->user, sizeof to->user, "%.*s", STR(*user));
    snprintf(to->uri, sizeof to->uri, "%s", uri);
    to->until = now() + expires;
    to->from = rdata->tp_info.transport->key;
    return true;
}

static void answer(pjsip_rx_data *rdata, const pj_str_t *user)
{
    pjsip_tx_data *tdata;
    if (pjsip_endpt_create_response(endpt, rdata, 200, NULL, &tdata) != PJ_SUCCESS)
        return;
    for (struct binding *b = bindings; b < bindings + BINDINGS_MAX; b++) {
        if (!live(b) || !is_user(b, user))
            continue;
        pj_str_t uri;
        pj_strdup2_with_null(tdata->pool, &uri, b->uri);
        pjsip_contact_hdr *contact = pjsip_contact_hdr_create(tdata->pool);
        contact->uri = pjsip_parse_uri(tdata->pool, uri.ptr, uri.slen, PJSIP_PARSE_URI_AS_NAMEADDR);
        contact->expires = (pj_uint32_t)(b->until - now());
        if (contact->uri != NULL)
            pjsip_msg_add_hdr(tdata->msg, (pjsip_hdr *)contact);
    }
    pjsip_response_addr to;
    if (pjsip_get_response_addr(tdata->pool, rdata, &to) != PJ_SUCCESS ||
        pjsip_endpt_send_response(endpt, &to, tdata, NULL, NULL) != PJ_SUCCESS)
        pjsip_tx_data_dec_ref(tdata);
}

static void refuse(pjsip_rx_data *rdata, int code)
{
    pjsip_endpt_respond_stateless(endpt, rdata, code, NULL, NULL, NULL);
}

static void forget_all(const pj_str_t *user)
{
    for (struct binding *b = bindings; b < bindings + BINDINGS_MAX; b++)
        if (live(b) && is_user(b, user))
            forget(b);
}

/* Takes over the Contacts of a REGISTER, those that end a binding or those that don't. 0, or the status to refuse with. */
static int each_contact(pjsip_rx_data *rdata, const pj_str_t *user, bool ending)
{
    const pjsip_msg *msg = rdata->msg_info.msg;
    const pjsip_expires_hdr *all = pjsip_msg_find_hdr(msg, PJSIP_H_EXPIRES, NULL);
    pj_uint32_t usual = all != NULL ? all->ivalue : EXPIRES_USUAL;
    pjsip_contact_hdr *contact = pjsip_msg_find_hdr(msg, PJSIP_H_CONTACT, NULL);
    for (; contact != NULL; contact = pjsip_msg_find_hdr(msg, PJSIP_H_CONTACT, contact->next)) {
        pj_uint32_t expires = contact->expires != PJSIP_EXPIRES_NOT_SPECIFIED ? contact->expires : usual;
        char uri[sizeof bindings->uri];
        if (contact->star) {
            forget_all(user);
            return 0;
        }
        if ((expires == 0) != ending)
            continue;
        int len = pjsip_uri_print(PJSIP_URI_IN_CONTACT_HDR, pjsip_uri_get_uri(contact->uri), uri, sizeof uri - 1);
        if (len < 1)
            return 400;
        uri[len] = '\0';
        if (!bind_contact(user, uri, (int)PJ_MIN(expires, EXPIRES_MAX), rdata))
            return 503;
    }
    return 0;
}

void registrar_register(pjsip_rx_data *rdata)
{
    const pjsip_sip_uri *aor = sip_uri_of(rdata->msg_info.to->uri);
    if (aor == NULL || aor->user.slen == 0 || !is_own(rdata->msg_info.to->uri)) {
        refuse(rdata, 404);
        return;
    }
    /* First those that go: our transport gives every Contact of a connection that connection's address, so that a client
     * which takes back one name of its own and puts another in its place means the same binding by both. */
    int refusal = each_contact(rdata, &aor->user, true);
    if (refusal == 0)
        refusal = each_contact(rdata, &aor->user, false);
    if (refusal != 0) {
        refuse(rdata, refusal);
        return;
    }
    answer(rdata, &aor->user);
}

int registrar_contacts(const pj_str_t *user, pj_pool_t *pool, pjsip_uri **out)
{
    int count = 0;
    for (struct binding *b = bindings; b < bindings + BINDINGS_MAX && count < CONTACTS_MAX; b++) {
        if (!live(b) || !is_user(b, user))
            continue;
        pj_str_t text;
        pj_strdup2_with_null(pool, &text, b->uri);
        pjsip_uri *uri = pjsip_parse_uri(pool, text.ptr, text.slen, 0);
        if (uri != NULL)
            out[count++] = uri;
    }
    return count;
}

void registrar_disconnected(const pjsip_transport *transport)
{
    for (struct binding *b = bindings; b < bindings + BINDINGS_MAX; b++)
        if (live(b) && b->from.type == transport->key.type &&
            pj_sockaddr_cmp(&b->from.rem_addr, &transport->key.rem_addr) == 0)
            forget(b);
}
