/* The half of a graphics driver that app_server loads; linked against libroot.so as Haiku's are,
 * and against Linux's libc.so.6 as it must not be:
 * gcc -shared -nostdlib -fPIC -O2 -Wl,-z,noseparate-code -Wl,-z,max-page-size=0x1000
 *     -Wl,--hash-style=gnu -Wl,--build-id=none accelerant.c libroot.so libc.so.6 */
void *get_accelerant_hook(unsigned feature, void *data) { return 0; }
