import java.math.BigInteger;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.time.Duration;
import java.time.Instant;
import java.util.Date;
import java.util.List;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.cms.CMSObjectIdentifiers;
import org.bouncycastle.asn1.cms.ContentInfo;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.JcaX509v3CertificateBuilder;
import org.bouncycastle.cms.CMSAlgorithm;
import org.bouncycastle.cms.CMSAuthEnvelopedData;
import org.bouncycastle.cms.CMSEnvelopedData;
import org.bouncycastle.cms.CMSProcessableByteArray;
import org.bouncycastle.cms.CMSSignedDataGenerator;
import org.bouncycastle.cms.Recipient;
import org.bouncycastle.cms.SignerInfoGeneratorBuilder;
import org.bouncycastle.cms.jcajce.JceKEMAuthEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKEMEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKEMRecipientInfoGenerator;
import org.bouncycastle.cms.jcajce.JceKeyAgreeAuthEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKeyAgreeEnvelopedRecipient;
import org.bouncycastle.operator.ContentSigner;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.util.CollectionStore;

/**
 * A newer Bouncy Castle, with requests for what the older one does not know:
 *
 * <pre>
 * sign-slh-dsa  parameterSet content output
 * encapsulate   wrapOid cipherOid certificate content output
 * decapsulate   key message output
 * agree         key message output
 * </pre>
 *
 * The signer of the first makes a key and a certificate for itself.
 */
public final class BouncyCastlePostQuantum {
    private static final String PROVIDER = BouncyCastle.PROVIDER;

    private BouncyCastlePostQuantum() {}

    public static void main(String[] arguments) throws Exception {
        BouncyCastle.serve(BouncyCastlePostQuantum::answer);
    }

    private static String answer(String[] request) throws Exception {
        switch (request[0]) {
            case "sign-slh-dsa":
                BouncyCastle.write(request[3], signSlhDsa(request[1], BouncyCastle.read(request[2])));
                return "";
            case "encapsulate":
                BouncyCastle.write(request[5], encapsulate(request));
                return "";
            case "decapsulate":
                BouncyCastle.write(request[3], decapsulate(request));
                return "";
            case "agree":
                BouncyCastle.write(request[3], agree(request));
                return "";
            default:
                return BouncyCastle.answer(request);
        }
    }

    private static byte[] signSlhDsa(String parameterSet, byte[] content) throws Exception {
        KeyPair pair = KeyPairGenerator.getInstance(parameterSet, PROVIDER).generateKeyPair();
        ContentSigner signer =
            new JcaContentSignerBuilder(parameterSet).setProvider(PROVIDER).build(pair.getPrivate());
        X500Name name = new X500Name("CN=" + parameterSet);
        Instant now = Instant.now();
        X509CertificateHolder certificate = new JcaX509v3CertificateBuilder(
            name, BigInteger.ONE, Date.from(now.minus(Duration.ofDays(1))), Date.from(now.plus(Duration.ofDays(1))),
            name, pair.getPublic()).build(signer);
        CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
        generator.addSignerInfoGenerator(
            new SignerInfoGeneratorBuilder(BouncyCastle.digests()).build(signer, certificate));
        generator.addCertificates(new CollectionStore<>(List.of(certificate)));
        return generator.generate(new CMSProcessableByteArray(content), true).getEncoded();
    }

    private static byte[] encapsulate(String[] request) throws Exception {
        JceKEMRecipientInfoGenerator recipient = new JceKEMRecipientInfoGenerator(
            BouncyCastle.certificate(request[3]), new ASN1ObjectIdentifier(request[1]))
            .setKDF(CMSAlgorithm.SHA256_HKDF) // RFC 9936 section 2.1.2; its own choice is KDF3 of ANSI X9.44
            .setProvider(PROVIDER);
        return BouncyCastleStructures.seal(recipient, request[2], BouncyCastle.read(request[4]));
    }

    private static byte[] decapsulate(String[] request) throws Exception {
        PrivateKey key = BouncyCastle.privateKey(request[1]);
        return open(
            BouncyCastle.read(request[2]), new JceKEMEnvelopedRecipient(key).setProvider(PROVIDER),
            new JceKEMAuthEnvelopedRecipient(key).setProvider(PROVIDER));
    }

    private static byte[] agree(String[] request) throws Exception {
        PrivateKey key = BouncyCastle.privateKey(request[1]);
        return open(
            BouncyCastle.read(request[2]), new JceKeyAgreeEnvelopedRecipient(key).setProvider(PROVIDER),
            new JceKeyAgreeAuthEnvelopedRecipient(key).setProvider(PROVIDER));
    }

    private static byte[] open(byte[] message, Recipient enveloped, Recipient authEnveloped) throws Exception {
        ContentInfo info = ContentInfo.getInstance(message);
        if (info.getContentType().equals(CMSObjectIdentifiers.authEnvelopedData)) {
            return new CMSAuthEnvelopedData(info).getRecipientInfos().iterator().next().getContent(authEnveloped);
        }
        return new CMSEnvelopedData(info).getRecipientInfos().iterator().next().getContent(enveloped);
    }
}
