/* Pieces of SIP text: slices of a message that is read, and a buffer that one is written into. */
#ifndef TEXT_H
#define TEXT_H

#include <sipws.h>
#include <stdbool.h>

/* Longer than a flow's message ever is by the library's default (limits.message_bytes), and a Via more. */
#define TEXT_MAX (68 * 1024)

/* What does not fit is not written, and `full` says so: half a message is never sent. */
struct text {
    size_t len;
    bool full;
    char data[TEXT_MAX];
};

void text_add(struct text *text, sipws_bytes bytes);
void text_addf(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

sipws_bytes bytes_of(const char *string);
bool bytes_equal_nocase(sipws_bytes a, sipws_bytes b);

/* The URI in the value of From, To or Contact, without its parameters: "sip:alice@example.com". Empty where there is none. */
sipws_bytes uri_of(sipws_bytes address);

/* Whether the value of From or To has a tag (RFC 3261 section 19.3). */
bool has_tag(sipws_bytes address);

/* The number of a header parameter, as in `<sip:a@b>;expires=60`; `otherwise` where it is not there. */
long param_number(sipws_bytes address, const char *name, long otherwise);

/* `otherwise` where it is not a number. */
long number_of(sipws_bytes digits, long otherwise);

#endif
