// The token that signers, crews and private viewers show. It may come behind "#" of the page's address, which no
// server and no log ever sees; it is kept for this tab alone.

const KEY = "avatar_stream.token";
let kept = "";  // where storage is forbidden: it lasts as long as the page

export function knownToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    keepToken(given);
    history.replaceState(null, "", location.pathname + location.search);  // not left standing on a shared screen
  }
  try {
    return sessionStorage.getItem(KEY) || "";
  } catch {
    return kept;
  }
}

export function keepToken(token) {
  kept = token;
  try {
    sessionStorage.setItem(KEY, token);
  } catch { /* see above */ }
}
