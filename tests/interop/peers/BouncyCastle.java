import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.PSSParameterSpec;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import javax.crypto.spec.OAEPParameterSpec;
import javax.crypto.spec.PSource;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.cms.CMSObjectIdentifiers;
import org.bouncycastle.asn1.cms.ContentInfo;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.JcaCertStore;
import org.bouncycastle.cms.CMSAlgorithm;
import org.bouncycastle.cms.CMSAuthEnvelopedData;
import org.bouncycastle.cms.CMSAuthEnvelopedDataGenerator;
import org.bouncycastle.cms.CMSEnvelopedData;
import org.bouncycastle.cms.CMSEnvelopedDataGenerator;
import org.bouncycastle.cms.CMSException;
import org.bouncycastle.cms.CMSProcessableByteArray;
import org.bouncycastle.cms.CMSSignedData;
import org.bouncycastle.cms.CMSSignedDataGenerator;
import org.bouncycastle.cms.KeyTransRecipientId;
import org.bouncycastle.cms.RecipientInformation;
import org.bouncycastle.cms.RecipientInformationStore;
import org.bouncycastle.cms.SignerInformation;
import org.bouncycastle.cms.jcajce.JcaSimpleSignerInfoVerifierBuilder;
import org.bouncycastle.cms.jcajce.JcaSignerInfoGeneratorBuilder;
import org.bouncycastle.cms.jcajce.JceCMSContentEncryptorBuilder;
import org.bouncycastle.cms.jcajce.JceKeyTransAuthEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKeyTransEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKeyTransRecipientId;
import org.bouncycastle.cms.jcajce.JceKeyTransRecipientInfoGenerator;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.ContentSigner;
import org.bouncycastle.operator.OutputAEADEncryptor;
import org.bouncycastle.operator.OutputEncryptor;
import org.bouncycastle.operator.jcajce.JcaAlgorithmParametersConverter;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaDigestCalculatorProviderBuilder;
import org.bouncycastle.util.Selector;

/**
 * Bouncy Castle as a program: reads one request a line, tab-separated, and answers it with one line,
 * "ok" or "refused" and a reason. The Java machine starts slowly, so one process serves many requests.
 *
 * <pre>
 * version
 * sign     algorithm digest saltSize key certificate content output detached|attached
 * verify   ca message content|- output
 * encrypt  cipher pkcs1|digest mgfDigest labelHex content output certificate...
 * decrypt  key certificate message output
 * </pre>
 *
 * Everything but names is a file: keys are PKCS#8, certificates X.509, messages CMS, all DER.
 */
public final class BouncyCastle {
    private static final String PROVIDER = "BC";

    private static final Map<String, ASN1ObjectIdentifier> CIPHERS = Map.of(
        "aes-128-cbc", CMSAlgorithm.AES128_CBC,
        "aes-192-cbc", CMSAlgorithm.AES192_CBC,
        "aes-256-cbc", CMSAlgorithm.AES256_CBC,
        "aes-128-gcm", CMSAlgorithm.AES128_GCM,
        "aes-192-gcm", CMSAlgorithm.AES192_GCM,
        "aes-256-gcm", CMSAlgorithm.AES256_GCM);

    private BouncyCastle() {}

    public static void main(String[] arguments) throws Exception {
        BouncyCastleProvider provider = new BouncyCastleProvider();
        Security.addProvider(provider);
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = requests.readLine()) != null) {
            String answer;
            try {
                answer = "ok\t" + answer(line.split("\t"), provider);
            } catch (Exception error) {
                answer = "refused\t" + reason(error);
            }
            System.out.println(answer);
            System.out.flush();
        }
    }

    private static String answer(String[] request, BouncyCastleProvider provider) throws Exception {
        switch (request[0]) {
            case "version":
                return provider.getVersionStr();
            case "sign":
                write(request[7], sign(request));
                return "";
            case "verify":
                write(request[4], verify(request));
                return "";
            case "encrypt":
                write(request[6], encrypt(request));
                return "";
            case "decrypt":
                write(request[4], decrypt(request));
                return "";
            default:
                throw new IllegalArgumentException("no such request: " + request[0]);
        }
    }

    private static byte[] sign(String[] request) throws Exception {
        PrivateKey key = privateKey(request[4]);
        X509Certificate certificate = certificate(request[5]);
        JcaContentSignerBuilder builder;
        if (request[1].equals("RSASSA-PSS")) {
            builder = new JcaContentSignerBuilder(request[1], new PSSParameterSpec(
                request[2], "MGF1", new MGF1ParameterSpec(request[2]), Integer.parseInt(request[3]), 1));
        } else {
            builder = new JcaContentSignerBuilder(request[1]);
        }
        ContentSigner signer = builder.setProvider(PROVIDER).build(key);
        CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
        generator.addSignerInfoGenerator(new JcaSignerInfoGeneratorBuilder(
            new JcaDigestCalculatorProviderBuilder().setProvider(PROVIDER).build()).build(signer, certificate));
        generator.addCertificates(new JcaCertStore(List.of(certificate)));
        boolean attached = request[8].equals("attached");
        return generator.generate(new CMSProcessableByteArray(read(request[6])), attached).getEncoded();
    }

    private static byte[] verify(String[] request) throws Exception {
        X509Certificate ca = certificate(request[1]);
        CMSSignedData message = request[3].equals("-")
            ? new CMSSignedData(read(request[2]))
            : new CMSSignedData(new CMSProcessableByteArray(read(request[3])), read(request[2]));
        Collection<SignerInformation> signers = message.getSignerInfos().getSigners();
        if (signers.isEmpty()) {
            throw new CMSException("there is no signer");
        }
        for (SignerInformation signer : signers) {
            @SuppressWarnings("unchecked") // SignerId is a Selector without its type
            Selector<X509CertificateHolder> id = signer.getSID();
            Collection<X509CertificateHolder> found = message.getCertificates().getMatches(id);
            if (found.isEmpty()) {
                throw new CMSException("the signer's certificate is not in the message");
            }
            X509Certificate certificate = certificateOf(found.iterator().next());
            certificate.checkValidity();
            certificate.verify(ca.getPublicKey());
            if (!signer.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider(PROVIDER).build(certificate))) {
                throw new CMSException("the signature does not hold");
            }
        }
        if (message.getSignedContent() == null) {
            throw new CMSException("there is no content");
        }
        return (byte[]) message.getSignedContent().getContent();
    }

    private static byte[] encrypt(String[] request) throws Exception {
        CMSProcessableByteArray content = new CMSProcessableByteArray(read(request[5]));
        OutputEncryptor encryptor =
            new JceCMSContentEncryptorBuilder(CIPHERS.get(request[1])).setProvider(PROVIDER).build();
        if (encryptor instanceof OutputAEADEncryptor) {
            CMSAuthEnvelopedDataGenerator generator = new CMSAuthEnvelopedDataGenerator();
            for (int index = 7; index < request.length; index++) {
                generator.addRecipientInfoGenerator(recipient(request, certificate(request[index])));
            }
            return generator.generate(content, (OutputAEADEncryptor) encryptor).getEncoded();
        }
        CMSEnvelopedDataGenerator generator = new CMSEnvelopedDataGenerator();
        for (int index = 7; index < request.length; index++) {
            generator.addRecipientInfoGenerator(recipient(request, certificate(request[index])));
        }
        return generator.generate(content, encryptor).getEncoded();
    }

    private static JceKeyTransRecipientInfoGenerator recipient(String[] request, X509Certificate certificate)
        throws Exception {
        if (request[2].equals("pkcs1")) {
            return new JceKeyTransRecipientInfoGenerator(certificate).setProvider(PROVIDER);
        }
        PSource label = new PSource.PSpecified(HexFormat.of().parseHex(request[4]));
        OAEPParameterSpec parameters =
            new OAEPParameterSpec(request[2], "MGF1", new MGF1ParameterSpec(request[3]), label);
        return new JceKeyTransRecipientInfoGenerator(
            certificate,
            new JcaAlgorithmParametersConverter()
                .getAlgorithmIdentifier(PKCSObjectIdentifiers.id_RSAES_OAEP, parameters)).setProvider(PROVIDER);
    }

    private static byte[] decrypt(String[] request) throws Exception {
        PrivateKey key = privateKey(request[1]);
        KeyTransRecipientId id = new JceKeyTransRecipientId(certificate(request[2]));
        ContentInfo message = ContentInfo.getInstance(read(request[3]));
        if (message.getContentType().equals(CMSObjectIdentifiers.authEnvelopedData)) {
            return find(new CMSAuthEnvelopedData(message).getRecipientInfos(), id)
                .getContent(new JceKeyTransAuthEnvelopedRecipient(key).setProvider(PROVIDER));
        }
        return find(new CMSEnvelopedData(message).getRecipientInfos(), id)
            .getContent(new JceKeyTransEnvelopedRecipient(key).setProvider(PROVIDER));
    }

    private static RecipientInformation find(RecipientInformationStore recipients, KeyTransRecipientId id)
        throws CMSException {
        RecipientInformation recipient = recipients.get(id);
        if (recipient == null) {
            throw new CMSException("there is no recipient with this certificate");
        }
        return recipient;
    }

    private static PrivateKey privateKey(String file) throws Exception {
        PrivateKeyInfo info = PrivateKeyInfo.getInstance(read(file));
        String algorithm = info.getPrivateKeyAlgorithm().getAlgorithm().getId();
        return KeyFactory.getInstance(algorithm, PROVIDER).generatePrivate(new PKCS8EncodedKeySpec(read(file)));
    }

    private static X509Certificate certificate(String file) throws Exception {
        return certificate(read(file));
    }

    private static X509Certificate certificateOf(X509CertificateHolder holder) throws Exception {
        return certificate(holder.getEncoded());
    }

    private static X509Certificate certificate(byte[] der) throws Exception {
        return (X509Certificate)
            CertificateFactory.getInstance("X.509", PROVIDER).generateCertificate(new ByteArrayInputStream(der));
    }

    private static byte[] read(String file) throws Exception {
        return Files.readAllBytes(Path.of(file));
    }

    private static void write(String file, byte[] content) throws Exception {
        Files.write(Path.of(file), content);
    }

    private static String reason(Throwable error) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            text.append(text.length() == 0 ? "" : ": ").append(cause);
        }
        return text.toString().replaceAll("\\s+", " ");
    }
}
