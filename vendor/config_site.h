/* How sipws builds PJSIP (vendor/pjproject.sh puts this file into pjlib/include/pj/). Each line says why it is not
 * PJSIP's default. A host with a config_site.h of its own needs none of it but PJSIP_MAX_PKT_LEN. */

/* A browser's INVITE with ICE candidates and a dozen codecs passes the default of 4000 bytes; longer messages are refused. */
#define PJSIP_MAX_PKT_LEN 65535

/* The same INVITE shall be whole in the log; what is longer than this, PJSIP replaces by an error text. It lies on the
 * stack of the thread that logs, so it is not the 64 KiB of above. */
#define PJ_LOG_MAX_SIZE 16384

/* Browsers key SRTP by DTLS and by nothing else (RFC 8827 §6.5). Off by default. */
#define PJMEDIA_SRTP_HAS_DTLS 1

/* Chromium's video section alone names more formats than the default of 32, each with rtpmap, fmtp and several rtcp-fb
 * lines; PJMEDIA refuses the whole description when one section overflows. */
#define PJMEDIA_MAX_SDP_FMT 64
#define PJMEDIA_MAX_SDP_ATTR 128

/* A browser behind VPN, IPv6 and mDNS offers more than the default of 16 candidates; the pairs of candidates grow with them. */
#define PJ_ICE_MAX_CAND 32
#define PJ_ICE_MAX_CHECKS 128

/* configure sets it where it finds OpenSSL: a build without TLS (sips:, DTLS-SRTP) shall fail, not do without. */
#define PJ_HAS_SSL_SOCK 1

/* WS6 and WSS6 are transports of IPv6. */
#define PJ_HAS_IPV6 1

/* Hash table sizes (2^n-1), and the ceiling of the timer heap: thousands of browsers register and call at once. */
#define PJSIP_MAX_TSX_COUNT 65535
#define PJSIP_MAX_DIALOG_COUNT 65535

/* The default of 64 is for a phone: a call's media takes up to four. Flows take none, sipws has its own event loop. The
 * ioqueue (epoll, which has no limit of its own) allocates all at start, about 300 bytes each. */
#define PJ_IOQUEUE_MAX_HANDLES 4096

/* pjsua, with which the tests call, takes 4 calls by default. */
#define PJSUA_MAX_CALLS 32
