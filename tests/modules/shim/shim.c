/* A PKCS#11 module around another one, which counts the calls of the process and lets one of them fail.
 *
 *   SHIM_MODULE  the module that does the work
 *   SHIM_LOG     a file that gets a line for each call: its number, its name, and for C_Login the user type
 *   SHIM_AT      the number of the call that fails, counted from 1; without it none does
 *   SHIM_FAULT   crash (SIGSEGV), abort (SIGABRT), hang, or a return code in hexadecimal such as 0x30
 *   SHIM_ALWAYS  set: all later calls fail as well
 *
 * C_GetFunctionList counts, too. What tokensign does not call is passed on without being counted. The interfaces of
 * PKCS#11 3 are not offered, so that nothing goes past the count.
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST ours;
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static unsigned long count;

static unsigned long note(const char *call, long user_type) {
  pthread_mutex_lock(&counting);
  unsigned long number = ++count;
  const char *path = getenv("SHIM_LOG");
  int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  if (file >= 0) {
    if (user_type < 0)
      dprintf(file, "%lu %s\n", number, call);
    else
      dprintf(file, "%lu %s %ld\n", number, call, user_type);
    close(file);
  }
  pthread_mutex_unlock(&counting);
  return number;
}

/* CKR_OK when the call is to be made; otherwise what it shall return, if it returns. */
static CK_RV fault(const char *call, long user_type) {
  unsigned long number = note(call, user_type);
  const char *at = getenv("SHIM_AT");
  const char *kind = getenv("SHIM_FAULT");
  if (!at || !kind)
    return CKR_OK;
  unsigned long wanted = strtoul(at, NULL, 10);
  if (number < wanted || (number > wanted && !getenv("SHIM_ALWAYS")))
    return CKR_OK;
  if (!strcmp(kind, "crash"))
    raise(SIGSEGV);
  if (!strcmp(kind, "abort"))
    abort();
  if (!strcmp(kind, "hang"))
    for (;;)
      pause();
  return strtoul(kind, NULL, 16);
}

#define PASS(name, parameters, arguments)                                                                            \
  static CK_RV shim_##name parameters {                                                                              \
    CK_RV code = fault(#name, -1);                                                                                   \
    return code ? code : real->name arguments;                                                                       \
  }
#define SESSION CK_SESSION_HANDLE s
#define OBJECT CK_OBJECT_HANDLE o
#define BYTES(x) CK_BYTE_PTR x, CK_ULONG x##_size
#define RESULT(x) CK_BYTE_PTR x, CK_ULONG_PTR x##_size
#define TEMPLATE(x) CK_ATTRIBUTE_PTR x, CK_ULONG x##_size
#define MECHANISM CK_MECHANISM_PTR m

PASS(C_Initialize, (void *a), (a))
PASS(C_Finalize, (void *a), (a))
PASS(C_GetInfo, (CK_INFO_PTR i), (i))
PASS(C_GetSlotList, (CK_BBOOL p, CK_SLOT_ID_PTR l, CK_ULONG_PTR n), (p, l, n))
PASS(C_GetSlotInfo, (CK_SLOT_ID l, CK_SLOT_INFO_PTR i), (l, i))
PASS(C_GetTokenInfo, (CK_SLOT_ID l, CK_TOKEN_INFO_PTR i), (l, i))
PASS(C_GetMechanismList, (CK_SLOT_ID l, CK_MECHANISM_TYPE_PTR m, CK_ULONG_PTR n), (l, m, n))
PASS(C_GetMechanismInfo, (CK_SLOT_ID l, CK_MECHANISM_TYPE m, CK_MECHANISM_INFO_PTR i), (l, m, i))
PASS(C_InitToken, (CK_SLOT_ID l, BYTES(p), CK_BYTE_PTR name), (l, p, p_size, name))
PASS(C_InitPIN, (SESSION, BYTES(p)), (s, p, p_size))
PASS(C_SetPIN, (SESSION, BYTES(p), BYTES(q)), (s, p, p_size, q, q_size))
PASS(C_OpenSession, (CK_SLOT_ID l, CK_FLAGS f, void *a, CK_NOTIFY n, CK_SESSION_HANDLE_PTR s), (l, f, a, n, s))
PASS(C_CloseSession, (SESSION), (s))
PASS(C_CloseAllSessions, (CK_SLOT_ID l), (l))
PASS(C_GetSessionInfo, (SESSION, CK_SESSION_INFO_PTR i), (s, i))
PASS(C_Logout, (SESSION), (s))
PASS(C_CreateObject, (SESSION, TEMPLATE(t), CK_OBJECT_HANDLE_PTR o), (s, t, t_size, o))
PASS(C_CopyObject, (SESSION, OBJECT, TEMPLATE(t), CK_OBJECT_HANDLE_PTR n), (s, o, t, t_size, n))
PASS(C_DestroyObject, (SESSION, OBJECT), (s, o))
PASS(C_GetAttributeValue, (SESSION, OBJECT, TEMPLATE(t)), (s, o, t, t_size))
PASS(C_SetAttributeValue, (SESSION, OBJECT, TEMPLATE(t)), (s, o, t, t_size))
PASS(C_FindObjectsInit, (SESSION, TEMPLATE(t)), (s, t, t_size))
PASS(C_FindObjects, (SESSION, CK_OBJECT_HANDLE_PTR o, CK_ULONG most, CK_ULONG_PTR n), (s, o, most, n))
PASS(C_FindObjectsFinal, (SESSION), (s))
PASS(C_EncryptInit, (SESSION, MECHANISM, OBJECT), (s, m, o))
PASS(C_Encrypt, (SESSION, BYTES(d), RESULT(r)), (s, d, d_size, r, r_size))
PASS(C_DecryptInit, (SESSION, MECHANISM, OBJECT), (s, m, o))
PASS(C_Decrypt, (SESSION, BYTES(d), RESULT(r)), (s, d, d_size, r, r_size))
PASS(C_SignInit, (SESSION, MECHANISM, OBJECT), (s, m, o))
PASS(C_Sign, (SESSION, BYTES(d), RESULT(r)), (s, d, d_size, r, r_size))
PASS(C_VerifyInit, (SESSION, MECHANISM, OBJECT), (s, m, o))
PASS(C_Verify, (SESSION, BYTES(d), BYTES(r)), (s, d, d_size, r, r_size))
PASS(C_GenerateKey, (SESSION, MECHANISM, TEMPLATE(t), CK_OBJECT_HANDLE_PTR o), (s, m, t, t_size, o))
PASS(C_GenerateKeyPair,
     (SESSION, MECHANISM, TEMPLATE(t), TEMPLATE(u), CK_OBJECT_HANDLE_PTR o, CK_OBJECT_HANDLE_PTR p),
     (s, m, t, t_size, u, u_size, o, p))
PASS(C_WrapKey, (SESSION, MECHANISM, OBJECT, CK_OBJECT_HANDLE k, RESULT(r)), (s, m, o, k, r, r_size))
PASS(C_UnwrapKey, (SESSION, MECHANISM, OBJECT, BYTES(d), TEMPLATE(t), CK_OBJECT_HANDLE_PTR n),
     (s, m, o, d, d_size, t, t_size, n))
PASS(C_DeriveKey, (SESSION, MECHANISM, OBJECT, TEMPLATE(t), CK_OBJECT_HANDLE_PTR n), (s, m, o, t, t_size, n))
PASS(C_GenerateRandom, (SESSION, BYTES(r)), (s, r, r_size))

static CK_RV shim_C_Login(SESSION, CK_USER_TYPE user, BYTES(p)) {
  CK_RV code = fault("C_Login", (long)user);
  return code ? code : real->C_Login(s, user, p, p_size);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
  CK_RV code = fault("C_GetFunctionList", -1);
  if (code)
    return code;
  if (!real) {
    const char *path = getenv("SHIM_MODULE");
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_C_GetFunctionList get = library ? (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList") : NULL;
    if (!get || get(&real) != CKR_OK)
      return CKR_GENERAL_ERROR;
    ours = *real;
#define OURS(name) ours.name = shim_##name
    OURS(C_Initialize), OURS(C_Finalize), OURS(C_GetInfo), OURS(C_GetSlotList), OURS(C_GetSlotInfo);
    OURS(C_GetTokenInfo), OURS(C_GetMechanismList), OURS(C_GetMechanismInfo), OURS(C_InitToken), OURS(C_InitPIN);
    OURS(C_SetPIN), OURS(C_OpenSession), OURS(C_CloseSession), OURS(C_CloseAllSessions), OURS(C_GetSessionInfo);
    OURS(C_Login), OURS(C_Logout), OURS(C_CreateObject), OURS(C_CopyObject), OURS(C_DestroyObject);
    OURS(C_GetAttributeValue), OURS(C_SetAttributeValue), OURS(C_FindObjectsInit), OURS(C_FindObjects);
    OURS(C_FindObjectsFinal), OURS(C_EncryptInit), OURS(C_Encrypt), OURS(C_DecryptInit), OURS(C_Decrypt);
    OURS(C_SignInit), OURS(C_Sign), OURS(C_VerifyInit), OURS(C_Verify), OURS(C_GenerateKey);
    OURS(C_GenerateKeyPair), OURS(C_WrapKey), OURS(C_UnwrapKey), OURS(C_DeriveKey), OURS(C_GenerateRandom);
    ours.C_GetFunctionList = C_GetFunctionList;
  }
  *list = &ours;
  return CKR_OK;
}
