// OpenID Connect provider (oidc-provider) with new keys at each start, for users of any name.
// Arguments: port, origin of the client's sign-in pages, URL for back-channel logout, client secret.
import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const [port, origin, logout, secret] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const gone = new Set();

const key = (type, options, members) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }),
  use: "sig",
  ...members,
});

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "0trust",
      client_secret: secret,
      redirect_uris: [`${origin}/in/main`],
      post_logout_redirect_uris: [`${origin}/`],
      grant_types: ["authorization_code", "refresh_token"],
      id_token_signed_response_alg: "ES256",
      backchannel_logout_uri: logout,
      backchannel_logout_session_required: true,
    },
  ],
  jwks: {
    keys: [key("ec", { namedCurve: "P-256" }, { alg: "ES256" }), key("rsa", { modulusLength: 2048 }, { alg: "RS256" })],
  },
  cookies: { keys: ["only for tests"] },
  features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: true } },
  // It refuses to call addresses of this machine, where the client of these tests is.
  fetch: (url, options) => globalThis.fetch(url, { ...options, dispatcher: undefined }),
  claims: { openid: ["sub", "groups"], email: ["email", "email_verified"], profile: ["name"] },
  findAccount: (context, id) =>
    gone.has(id)
      ? undefined
      : {
          accountId: id,
          claims: () => ({
            sub: id,
            email: `${id}@example.com`,
            email_verified: true,
            name: id,
            groups: ["staff"],
          }),
        },
  ttl: { AccessToken: 300, IdToken: 300, Interaction: 300, Session: 3600, Grant: 3600, RefreshToken: 3600 },
});

// DELETE /users/NAME: the provider knows this user no longer.
provider.use(async (context, next) => {
  if (context.method !== "DELETE") return next();
  gone.add(context.path.split("/").pop());
  context.status = 204;
});

provider.on("server_error", (context, error) => console.error(error));
provider.on("backchannel.error", (context, error) => console.error(error));
provider.listen(Number(port), "127.0.0.1", () => console.log(`listens on 127.0.0.1:${port}`));
