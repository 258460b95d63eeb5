/* A PKCS#11 module around another one, whose tokens say other things of their PINs.
 *
 *   PAD_MODULE  the module that does the work
 *   PAD_FLAGS   flags of CK_TOKEN_INFO in hexadecimal that are set besides its own; without it
 *               CKF_PROTECTED_AUTHENTICATION_PATH, the flag of a PIN pad
 *   PAD_PINS    a file with what is typed on the pad: a line for each PIN that is a null pointer
 *   PAD_LOG     a file that gets a line for each call that takes a PIN: its name, and where the PIN was typed
 *   PAD_LOGIN   a return code in hexadecimal that C_Login gives for the user, without trying the PIN
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAXIMUM 256

static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST ours;
static unsigned long typed; /* how many PINs were typed on the pad until now */

struct pin {
  CK_UTF8CHAR_PTR value;
  CK_ULONG size;
  char line[LINE_MAXIMUM];
};

/* The PIN that was passed, or else what is typed on the pad. */
static void take(struct pin *pin, CK_UTF8CHAR_PTR value, CK_ULONG size) {
  pin->value = value;
  pin->size = size;
  const char *path = getenv("PAD_PINS");
  FILE *pins = value || !path ? NULL : fopen(path, "re");
  if (!pins)
    return;
  for (unsigned long number = 0; number <= typed; number++)
    if (!fgets(pin->line, sizeof pin->line, pins))
      pin->line[0] = 0;
  fclose(pins);
  typed++;
  pin->value = (CK_UTF8CHAR_PTR)pin->line;
  pin->size = strcspn(pin->line, "\n");
}

static void note(const char *call, CK_UTF8CHAR_PTR value, CK_ULONG size) {
  const char *path = getenv("PAD_LOG");
  int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  if (file < 0)
    return;
  dprintf(file, "%s %s\n", call, value ? "host" : size ? "wrong" : "pad");
  close(file);
}

static CK_RV pad_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info) {
  CK_RV result = real->C_GetTokenInfo(slot, info);
  const char *flags = getenv("PAD_FLAGS");
  if (result == CKR_OK)
    info->flags |= flags ? strtoul(flags, NULL, 16) : CKF_PROTECTED_AUTHENTICATION_PATH;
  return result;
}

static CK_RV pad_Login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR_PTR value, CK_ULONG size) {
  struct pin pin;
  char call[] = "C_Login 0";
  call[sizeof call - 2] = (char)('0' + user);
  note(call, value, size);
  const char *answer = getenv("PAD_LOGIN");
  if (answer && user == CKU_USER)
    return strtoul(answer, NULL, 16);
  take(&pin, value, size);
  return real->C_Login(session, user, pin.value, pin.size);
}

static CK_RV pad_InitToken(CK_SLOT_ID slot, CK_UTF8CHAR_PTR value, CK_ULONG size, CK_UTF8CHAR_PTR label) {
  struct pin pin;
  note("C_InitToken", value, size);
  take(&pin, value, size);
  return real->C_InitToken(slot, pin.value, pin.size, label);
}

static CK_RV pad_InitPIN(CK_SESSION_HANDLE session, CK_UTF8CHAR_PTR value, CK_ULONG size) {
  struct pin pin;
  note("C_InitPIN", value, size);
  take(&pin, value, size);
  return real->C_InitPIN(session, pin.value, pin.size);
}

static CK_RV pad_SetPIN(CK_SESSION_HANDLE session, CK_UTF8CHAR_PTR old_value, CK_ULONG old_size,
                        CK_UTF8CHAR_PTR new_value, CK_ULONG new_size) {
  struct pin old_pin, new_pin;
  note("C_SetPIN", old_value, old_size);
  note("C_SetPIN", new_value, new_size);
  take(&old_pin, old_value, old_size);
  take(&new_pin, new_value, new_size);
  return real->C_SetPIN(session, old_pin.value, old_pin.size, new_pin.value, new_pin.size);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
  if (!real) {
    const char *path = getenv("PAD_MODULE");
    void *library = path ? dlopen(path, RTLD_NOW) : NULL;
    CK_C_GetFunctionList get = library ? (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList") : NULL;
    if (!get || get(&real) != CKR_OK)
      return CKR_GENERAL_ERROR;
    ours = *real;
    ours.C_GetFunctionList = C_GetFunctionList;
    ours.C_GetTokenInfo = pad_GetTokenInfo;
    ours.C_Login = pad_Login;
    ours.C_InitToken = pad_InitToken;
    ours.C_InitPIN = pad_InitPIN;
    ours.C_SetPIN = pad_SetPIN;
  }
  *list = &ours;
  return CKR_OK;
}
